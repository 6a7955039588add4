use super::*;

use std::fs;
use std::path::Path;
use std::time::Instant;

use xpush_core::ports::Done;

use crate::files::picture;

/// Decodes in this process: these tests have no program for it.
pub(crate) fn in_process_decoder() -> Decoder {
    Decoder { program: PathBuf::new(), arguments: Vec::new() }
}

pub(super) async fn in_process(
    mut content: Box<dyn Content>,
    format: ImageFormat,
    most: u64,
    turn: SemaphorePermit<'_>,
) -> Result<Developed<'_>, Refusal> {
    let mut bytes = Vec::new();
    while let Some(chunk) = store(|done| content.read(done)).await? {
        bytes.extend_from_slice(&chunk);
    }
    let picture = picture::develop(&bytes, format, most).map_err(Problem::from)?;
    Ok(Developed {
        shape: picture.shape,
        small: picture.small,
        from: Box::new(io::Cursor::new([picture.bytes, picture.thumbnail].concat())),
        silence: SILENCE,
        _decoder: None,
        _turn: turn,
    })
}

/// More than a pipe holds.
struct Original(usize);

impl Content for Original {
    fn read(&mut self, done: Done<Option<Bytes>>) {
        self.0 = self.0.saturating_sub(1);
        done(Ok((self.0 > 0).then(|| Bytes::from_static(&[7; 60_000]))));
    }
}

/// A decoder that is a line of shell, which says first who it is.
fn shell(folder: &Path, line: &str) -> Studio {
    let script = format!("echo $$ > {}; {line}", folder.join("pid").display());
    let decoder = Decoder { program: "/bin/sh".into(), arguments: vec!["-c".into(), script.into()] };
    Studio::new(decoder, 1_000_000)
}

async fn refused(studio: &Studio) -> (Code, String) {
    let developed = studio.develop(Box::new(Original(9)), ImageFormat::Png).await;
    let problem = match developed {
        Ok(mut developed) => developed.next(developed.shape.size).await.unwrap_err(),
        Err(refusal) => refusal.problem,
    };
    (problem.code, problem.message().to_owned())
}

/// The process that says who it is, once it has.
async fn says_who_it_is(folder: &Path) -> PathBuf {
    let since = Instant::now();
    loop {
        // As long as its line has no end, it has not said all of it.
        match fs::read_to_string(folder.join("pid")) {
            Ok(pid) if pid.ends_with('\n') => return PathBuf::from(format!("/proc/{}", pid.trim())),
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
        assert!(since.elapsed() < Duration::from_secs(30), "no decoder has begun");
    }
}

/// Waits for the end of the process that has said who it is.
async fn ends(folder: &Path) {
    let process = says_who_it_is(folder).await;
    let since = Instant::now();
    while process.exists() {
        assert!(since.elapsed() < Duration::from_secs(30), "the decoder is still there");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_decoder_that_dies_hangs_or_talks_nonsense_costs_one_upload() {
    let picture = r#"{"picture":[{"written":"png","width":1,"height":1,"size":SIZE},{"written":"png","width":1,"height":1,"size":1}]}"#;
    let says = |size: u64, more: &str| {
        let text = picture.replace("SIZE", &size.to_string());
        format!(r"cat > /dev/null; printf '\000\000\000\{:o}%s' '{text}'; {more}", text.len())
    };
    for (line, told) in [
        ("kill -ABRT $$", "memory and the time"),
        ("cat > /dev/null; kill -ABRT $$", "memory and the time"),
        ("exit 0", "memory and the time"),
        // It neither reads nor writes, or does not write.
        ("exec sleep 1000", "takes too long"),
        ("cat > /dev/null; exec sleep 1000", "takes too long"),
        // It lives on without an output.
        ("cat > /dev/null; exec sleep 1000 >&-", "memory and the time"),
        ("cat > /dev/null; exec cat /dev/zero", "memory and the time"),
        ("cat > /dev/null; yes nonsense", "memory and the time"),
        (r"cat > /dev/null; printf '\000\000\000\001x'; exec sleep 1000", "memory and the time"),
        (&says(64_000_001, "exec cat /dev/zero"), "memory and the time"),
        // Less than it has promised.
        (&says(9, "printf 1234"), "memory and the time"),
        (&says(9, "printf 1234; exec sleep 1000"), "takes too long"),
        (r#"cat > /dev/null; printf '\000\000\000\023%s' '{"refused":"bombs"}'"#, "memory and the time"),
        (r#"cat > /dev/null; printf '\000\000\000\025%s' '{"refused":"damaged"}'"#, "is damaged"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        // Who is waited for in vain is so for a second; the others may take their time.
        let silence = if told == "takes too long" { Duration::from_secs(1) } else { SILENCE };
        let studio = Studio { silence, ..shell(folder.path(), line) };
        let (code, message) = refused(&studio).await;
        assert_eq!(code, Code::BadImage, "{line}");
        assert!(message.contains(told), "{line}: {message}");
        assert_eq!(studio.turns.available_permits(), AT_ONCE, "{line}");
        ends(folder.path()).await;
    }
}

#[tokio::test]
async fn a_decoder_knows_nothing_of_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let studio = shell(folder.path(), &format!("(env; pwd; ls /proc/$$/fd) > {}", out.display()));
    refused(&studio).await;
    let out = fs::read_to_string(&out).unwrap();
    let lines: Vec<&str> = out
        .lines()
        .filter(|line| {
            !line.starts_with("PWD=")
                && !line.starts_with("_=")
                && !line.starts_with("SHLVL=")
                && !line.starts_with("OLDPWD=")
        })
        .collect();
    assert_eq!(lines[0], "/", "{out}");
    let open: Vec<&str> =
        lines[1..].iter().copied().filter(|fd| fd.parse::<u32>().is_ok_and(|fd| fd < 10)).collect();
    assert_eq!(open, ["0", "1", "2"], "{out}");
}

#[tokio::test]
async fn whoever_waits_no_more_has_no_decoder_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let studio = shell(folder.path(), "exec sleep 1000");
    tokio::select! {
        _ = studio.develop(Box::new(Original(9)), ImageFormat::Png) => panic!("it sleeps"),
        _ = says_who_it_is(folder.path()) => {}
    }
    ends(folder.path()).await;
}

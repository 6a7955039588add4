use super::*;

use xpush_core::files::FileRule;

const SEVERAL: &str =
    "[zookeeper]\nservers = 'zk:2181'\n[redis]\nurl = 'redis://r'\n[mongodb]\nurl = 'mongodb://m'\n";
const BUCKET: &str = "[s3]\nendpoint = 'https://s3.example.com'\nbucket = 'files'\naccess_key = 'a'\nsecret_key_file = 'a.secret'\n";

fn rules(lines: &str) -> Vec<FileRule> {
    apps::app(lines).files
}

#[test]
fn several_servers_have_no_folder_unless_it_is_said_that_they_share_it() {
    assert!(from_file("[files]\nfolder = '/srv/files'").is_ok());
    let refused = complaints(&format!("{SEVERAL}[files]\nfolder = '/srv/files'"));
    assert!(refused[0].contains("folder_is_shared = true"), "{refused:?}");
    let shared = format!("{SEVERAL}[files]\nfolder = '/srv/files'\nfolder_is_shared = true");
    assert!(from_file(&shared).unwrap().uploads.folder_is_shared);
    assert!(from_file(&format!("{SEVERAL}{BUCKET}")).unwrap().uploads.s3.is_some());
    assert!(from_file(SEVERAL).is_ok(), "without files everything else works");
    assert!(complaints("[files]\nfolder_is_shared = true")[0].contains("needs `files.folder`"));
}

#[test]
fn a_bucket_is_whole_and_its_secret_is_not_shown() {
    let settings = from_file(BUCKET).unwrap();
    assert!(!format!("{settings:?}").contains("a file's secret"));
    for (left_out, line) in [("endpoint", 1), ("bucket", 2), ("access_key", 3), ("secret_key_file", 4)] {
        let lines: Vec<_> =
            BUCKET.lines().enumerate().filter(|(at, _)| *at != line).map(|(_, line)| line).collect();
        let told = complaints(&lines.join("\n"));
        assert!(told[0].contains(&format!("needs `s3.{left_out}` beside it")), "{told:?}");
    }
    for bad in ["endpoint = 's3.example.com'", "bucket = 'A'", "prefix = '../x'"] {
        assert!(!complaints(&format!("[s3]\n{bad}")).is_empty(), "{bad}");
    }
}

#[test]
fn rules_for_files_have_bounds_and_types() {
    let rule = &rules(
        "[[apps.a.files]]\nchannels = 'room:*'\nsize = '5MB'\ntypes = ['image/*', 'Text/CSV']\nkeep = '7d'",
    )[0];
    assert_eq!((rule.size, rule.keep_ms, rule.per_day), (5_000_000, Some(604_800_000), None));
    assert_eq!(rule.types.iter().map(|kind| &**kind).collect::<Vec<_>>(), ["image/*", "text/csv"]);
    assert_eq!(rules("").len(), 0);
    for (line, why) in [
        ("size = 0", "at least"),
        ("types = 'image'", "media type"),
        ("types = 'image/p ng'", "media type"),
        ("types = '*/png'", "media type"),
        ("keep = '1s'", "at least"),
    ] {
        let text =
            format!("[apps.a]\n[[apps.a.rules]]\nchannels = '*'\n[[apps.a.files]]\nchannels = '*'\n{line}");
        assert!(complaints(&text)[0].contains(why), "{line}: {:?}", complaints(&text));
    }
    let nowhere = complaints("[apps.a]\n[[apps.a.rules]]\nchannels = '*'\n[[apps.a.files]]\nsize = 5");
    assert!(nowhere[0].contains("which `channels`"), "{nowhere:?}");
}

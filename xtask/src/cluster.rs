//! `cargo xtask cluster`: several servers on this machine, with everything that they stand on, until Ctrl-C.
//!
//! `std` cannot watch for signals, so there are two processes. A shell waits for Ctrl-C, and holds one end of a pipe; the other one runs the programs, and
//! stops them in order when the pipe ends, however the shell has ended. Should it be killed itself, the kernel ends its children (`setpriv --pdeathsig`).

pub(crate) mod bench;
mod files;
mod program;

use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::repo::Repo;
use crate::run::{command, read, show};
use crate::suite::needs::{self, Need};

use files::{Front, Places};
use program::{Program, http_ok, listens, wait_for};

const HELP: &str = "\
Usage: cargo xtask cluster [--port PORT] [--keep] [--binary FILE]

Several servers on this machine, with everything that they stand on: ZooKeeper, Redis, a MongoDB-compatible server (SecantusDB, as there is no package
of MongoDB itself), two session servers, three channel servers, and nginx in front. Installs what is missing and builds the release binary first.
Everything listens on loopback only, and lies in target/xtask/cluster; Ctrl-C ends it all.

  --port PORT     nginx's port; the others follow within the next 30 (default 8000)
  --keep          go on with what the last run has stored
  --binary FILE   this xpush instead of the release build
";

/// Told to the process that runs the programs.
const INNER: &str = "--inner";

/// Waits for Ctrl-C while `$@` runs, and lets it know by the end of its input. What runs in the background of a script does not hear Ctrl-C itself.
const WATCH: &str = r#"
pipe=$1; shift; over=
rm -f "$pipe"; mkfifo "$pipe" || exit 2
"$@" <"$pipe" & inner=$!
trap 'over=1; exec 3>&-' INT TERM HUP
exec 3>"$pipe"
[ -z "$over" ] || exec 3>&-
wait $inner; status=$?
while kill -0 $inner 2>/dev/null; do wait $inner; status=$?; done
exit $status
"#;

/// What a server may take to start; on a slow machine, the first start of Java takes long.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a server may take to drain.
const DRAIN: Duration = Duration::from_secs(15);

/// A server that has ended is started again after so long, so that one can see what becomes of its clients meanwhile.
const AGAIN: Duration = Duration::from_secs(15);

/// How often it is looked whether all still run.
const LOOK: Duration = Duration::from_millis(500);

const NEEDS: &[Need] = &[Need::Python, Need::Redis, Need::ZooKeeper, Need::Nginx, Need::SecantusDb];

struct Options {
    port: u16,
    keep: bool,
    binary: PathBuf,
    inner: bool,
}

/// Runs until it is ended.
pub(crate) fn run(repo: &Repo, options: &[&str]) -> Result<bool, String> {
    if matches!(options, ["--help" | "-h"]) {
        print!("{HELP}");
        return Ok(true);
    }
    let chosen = parse(repo, options)?;
    let places = Places::new(repo, chosen.port);
    if chosen.inner {
        return serve(repo, &chosen, &places);
    }
    if let Some((need, reason)) = needs::install_all(repo, NEEDS).into_iter().next() {
        return Err(format!("{need} is missing: {reason}"));
    }
    if chosen.binary == repo.release_binary() {
        show(&mut command(repo, &["cargo", "build", "--locked", "--release", "-p", "xpush"]))?;
    }
    if !chosen.keep {
        // It may not be there.
        let _ = std::fs::remove_dir_all(&places.folder);
    }
    std::fs::create_dir_all(&places.folder)
        .map_err(|error| format!("{}: {error}", places.folder.display()))?;
    let this =
        std::env::current_exe().map_err(|error| format!("this program is not to be found: {error}"))?;
    let mut watch = Command::new("sh");
    watch.args(["-c", WATCH, "xtask"]).arg(places.folder.join("pipe")).arg(this).args(["cluster", INNER]);
    let error = watch.args(options).exec();
    Err(format!("sh cannot be started: {error}"))
}

fn parse(repo: &Repo, options: &[&str]) -> Result<Options, String> {
    let mut chosen = Options { port: 8000, keep: false, binary: repo.release_binary(), inner: false };
    let mut options = options.iter();
    while let Some(option) = options.next() {
        let mut value = || options.next().ok_or_else(|| format!("{option}: a value is missing\n\n{HELP}"));
        match *option {
            "--port" => {
                let text = value()?;
                let port = text.parse().ok().filter(|port| (1..=u16::MAX - 30).contains(port));
                chosen.port = port.ok_or_else(|| format!("--port {text}: 1 to {}", u16::MAX - 30))?;
            }
            "--binary" => chosen.binary = value()?.into(),
            "--keep" => chosen.keep = true,
            INNER => chosen.inner = true,
            other => return Err(format!("`{other}` is not understood\n\n{HELP}")),
        }
    }
    Ok(chosen)
}

fn serve(repo: &Repo, options: &Options, places: &Places) -> Result<bool, String> {
    let ended = end_of_input();
    for (name, port) in places.ports() {
        TcpListener::bind(("127.0.0.1", port))
            .map_err(|error| format!("port {port}, for {name}: {error}; --port takes others"))?;
    }
    let mut running = Running { services: Vec::new(), servers: Vec::new(), front: None };
    let outcome = running
        .start(repo, options, places, &ended)
        .and_then(|()| {
            println!("{}", places.welcome(&options.binary, running.process("channel-1")));
            running.watch(options, places, &ended)
        })
        .map(|()| true);
    running.stop();
    match outcome {
        Err(Stop::Asked) => Ok(true),
        Err(Stop::Failed(reason)) => Err(reason),
        Ok(done) => Ok(done),
    }
}

/// Why it does not go on.
enum Stop {
    Asked,
    Failed(String),
}

impl From<String> for Stop {
    fn from(reason: String) -> Self {
        Self::Failed(reason)
    }
}

/// Hears when whoever watches for Ctrl-C is gone, or wants an end.
fn end_of_input() -> Receiver<()> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut byte = [0];
        while std::io::stdin().read(&mut byte).is_ok_and(|read| read > 0) {}
        let _ = sender.send(());
    });
    receiver
}

/// Everything that runs; ended when it is dropped.
struct Running {
    services: Vec<Program>,
    servers: Vec<Server>,
    front: Option<Program>,
}

struct Server {
    name: &'static str,
    program: Program,
    ended: Option<Instant>,
}

impl Running {
    fn start(
        &mut self,
        repo: &Repo,
        options: &Options,
        places: &Places,
        ended: &Receiver<()>,
    ) -> Result<(), Stop> {
        places.write()?;
        println!("ZooKeeper, Redis and a MongoDB-compatible server (SecantusDB) …");
        self.services.push(places.zookeeper()?);
        self.services.push(places.redis(options.keep)?);
        self.services.push(places.mongodb(&needs::secantusdb(repo))?);
        let all = [places.zookeeper, places.redis, places.mongodb];
        wait_for("the services", PATIENCE, ended, || {
            for service in &mut self.services {
                service.must_run()?;
            }
            Ok(all.iter().all(|port| listens(*port)))
        })?;
        println!("two session servers and three channel servers …");
        for (name, _) in files::SERVERS {
            self.servers.push(Server { name, program: places.server(&options.binary, name)?, ended: None });
        }
        wait_for("the servers", PATIENCE, ended, || {
            for server in &mut self.servers {
                server.program.must_run()?;
            }
            Ok(self.servers.iter().all(|server| http_ok(places.port(server.name), "/readyz")))
        })?;
        self.front = Some(places.nginx(Front::read(repo)?)?);
        wait_for("nginx", PATIENCE, ended, || {
            if let Some(front) = &mut self.front {
                front.must_run()?;
            }
            Ok(http_ok(places.front, "/api/v1/assign?channel=chat:lobby"))
        })?;
        wait_for("a ring with every channel server", PATIENCE, ended, || {
            let mut nodes = command(repo, &[&options.binary.to_string_lossy(), "nodes", "--config"]);
            let table = read(nodes.arg(places.config()).current_dir(&places.folder)).unwrap_or_default();
            Ok(table.lines().filter(|line| line.contains("serving") && line.contains('%')).count() == 3)
        })
    }

    /// The process id of a server.
    fn process(&self, name: &str) -> u32 {
        self.servers.iter().find(|server| server.name == name).map_or(0, |server| server.program.id())
    }

    /// Starts again whoever ends, until it is to end.
    fn watch(&mut self, options: &Options, places: &Places, ended: &Receiver<()>) -> Result<(), Stop> {
        loop {
            match ended.recv_timeout(LOOK) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            for service in self.services.iter_mut().chain(&mut self.front) {
                if let Some(status) = service.ended() {
                    println!(
                        "{} has ended ({status}); what it is for does not work until the next start",
                        service.name()
                    );
                }
            }
            for server in &mut self.servers {
                if let Some(status) = server.program.ended() {
                    server.ended = Some(Instant::now());
                    println!(
                        "{} has ended ({status}); it is started again in {} s",
                        server.name,
                        AGAIN.as_secs()
                    );
                }
                if server.ended.is_some_and(|at| at.elapsed() >= AGAIN) {
                    server.ended = None;
                    server.program = places.server(&options.binary, server.name)?;
                    println!("{} is started again: process {}", server.name, server.program.id());
                }
            }
        }
    }

    /// Servers first: they tell their clients, and need the others for it.
    fn stop(&mut self) {
        println!("stopping: servers drain first …");
        for server in &self.servers {
            server.program.signal("TERM");
        }
        let deadline = Instant::now() + DRAIN;
        for server in &mut self.servers {
            server.program.end_by(deadline);
        }
        for program in self.front.iter_mut().chain(&mut self.services) {
            program.signal("TERM");
            program.end_by(deadline + DRAIN);
        }
        println!("stopped");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_understood_or_refused() {
        let repo = Repo::here();
        let port = |options: &[&str]| parse(&repo, options).map(|chosen| (chosen.port, chosen.keep)).ok();
        assert_eq!(port(&[]), Some((8000, false)));
        assert_eq!(port(&["--port", "9000", "--keep"]), Some((9000, true)));
        for wrong in [&["--port"][..], &["--port", "0"], &["--port", "65530"], &["--nothing"]] {
            assert_eq!(port(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn the_sample_knows_every_server() {
        let repo = Repo::here();
        let places = Places::new(&repo, 8000);
        let site = Front::read(&repo).and_then(|front| front.filled(&places)).unwrap();
        for (name, _) in files::SERVERS {
            assert!(site.contains(&format!("server 127.0.0.1:{}", places.port(name))), "{name}: {site}");
        }
        assert!(!site.contains("server 10.0.0."), "{site}");
        assert!(site.contains("listen 127.0.0.1:8000;"), "{site}");
    }

    #[test]
    fn a_signal_is_told_by_the_end_of_the_pipe_and_the_status_comes_back() {
        let folder = std::env::temp_dir().join(format!("xtask-cluster-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut watch = Command::new("sh");
        watch.args(["-c", WATCH, "xtask"]).arg(folder.join("pipe"));
        let status = watch.args(["sh", "-c", "kill -TERM $PPID; cat >/dev/null; exit 7"]).status().unwrap();
        assert_eq!(status.code(), Some(7));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

//! Real ZooKeeper: one server, or an ensemble.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{PATIENCE, free_port, wait_until, wait_within};

/// Debian's `libzookeeper-java`, which names in its manifest what else it needs, but for what its TLS needs of Netty.
const JARS: &str =
    "/usr/share/java/zookeeper.jar:/usr/share/java/netty-codec.jar:/usr/share/java/netty-resolver.jar";

/// Runs Java below a shell that ends it when our end of the pipe closes, however this process ends. The folder goes with it, unless a word came before.
const KEEPER: &str = r#"
folder=$1; shift
"$@" >"$folder/log" 2>&1 </dev/null & pid=$!
trap 'kill -9 $pid 2>/dev/null' EXIT
trap exit INT TERM HUP
echo $pid
read -r keep || { kill -9 $pid; rm -rf "$folder"; }
"#;

/// One server or several that run as one, with sessions of 1 to 60 s. Killed at the end; ports and data stay their own through restarts.
pub struct ZooKeeper {
    servers: Vec<Server>,
}

struct Server {
    folder: PathBuf,
    port: u16,
    running: Option<Running>,
}

struct Running {
    keeper: Child,
    /// Java lives as long as this is open.
    pipe: ChildStdin,
    java: Pid,
}

impl ZooKeeper {
    /// One server. Each of `settings` is a line of its configuration.
    pub fn start(settings: &[&str]) -> Self {
        Self::start_all(1, settings)
    }

    /// Three servers, of which two are enough.
    pub fn ensemble() -> Self {
        Self::start_all(3, &[])
    }

    fn start_all(count: usize, settings: &[&str]) -> Self {
        // Somebody else may take a port in between.
        for _ in 0..5 {
            let mut all = Self { servers: (0..count).map(|_| Server::new()).collect() };
            all.configure(settings);
            all.servers.iter_mut().for_each(Server::launch);
            if all.servers.iter_mut().all(Server::comes_up) {
                return all;
            }
        }
        panic!("ZooKeeper does not start; install it: apt-get install zookeeper default-jre-headless");
    }

    fn configure(&self, settings: &[&str]) {
        let mut peers = String::new();
        if self.servers.len() > 1 {
            for number in 1..=self.servers.len() {
                // Writing to a string cannot fail.
                let _ = writeln!(peers, "server.{number}=127.0.0.1:{}:{}", free_port(), free_port());
            }
        }
        for (index, server) in self.servers.iter().enumerate() {
            let data = server.folder.display();
            let text = format!(
                "tickTime=500\ninitLimit=60\nsyncLimit=20\nminSessionTimeout=1000\nmaxSessionTimeout=60000\n\
                 dataDir={data}\nclientPortAddress=127.0.0.1\nclientPort={}\nmaxClientCnxns=0\n\
                 admin.enableServer=false\n4lw.commands.whitelist=*\n{}\n{peers}",
                server.port,
                settings.join("\n"),
            );
            std::fs::write(server.folder.join("zoo.cfg"), text).expect("a configuration");
            std::fs::write(server.folder.join("myid"), format!("{}\n", index + 1)).expect("a number");
        }
    }

    /// Where they listen, as `host:port,host:port`.
    pub fn hosts(&self) -> String {
        let hosts: Vec<String> = self.servers.iter().map(|server| server.address().to_string()).collect();
        hosts.join(",")
    }

    /// Where the server of this index listens.
    pub fn address(&self, index: usize) -> SocketAddr {
        self.servers[index].address()
    }

    /// The index of the server that leads.
    pub fn leader(&self) -> usize {
        let mut leader = None;
        wait_until("a leader", || {
            leader = self.servers.iter().position(|server| server.mode().as_deref() == Some("leader"));
            leader.is_some()
        });
        leader.expect("a leader")
    }

    /// Kills a server by SIGKILL, and waits until it is gone.
    pub fn kill(&mut self, index: usize) {
        self.servers[index].kill();
    }

    /// Stops a server in the middle of whatever it does (SIGSTOP): connections stay, and nobody answers.
    pub fn freeze(&self, index: usize) {
        self.servers[index].signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&self, index: usize) {
        self.servers[index].signal(Signal::CONT);
    }

    /// Starts whoever is not running on their ports, with their data.
    pub fn restart(&mut self) {
        for server in self.servers.iter_mut().filter(|server| server.running.is_none()) {
            server.launch();
        }
    }

    /// Waits until all take part.
    pub fn wait_until_whole(&self) {
        for server in &self.servers {
            wait_until("all servers serve", || server.mode().is_some());
        }
    }
}

impl Server {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("xpush-zookeeper-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        Self { folder, port: free_port(), running: None }
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    fn launch(&mut self) {
        let config = self.folder.join("zoo.cfg");
        let java: [&str; 8] = [
            "java",
            "-Xmx128m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            // A kill of the process is survived without it, and a test's disk need not be waited for.
            "-Dzookeeper.forceSync=no",
            "-Dzookeeper.preAllocSize=64",
            "-cp",
            JARS,
        ];
        let mut command = Command::new("sh");
        command.args(["-c", KEEPER, "zookeeper"]).arg(&self.folder).args(java);
        command.arg("org.apache.zookeeper.server.quorum.QuorumPeerMain").arg(config);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut keeper = command.spawn().expect("a shell");
        let mut line = String::new();
        let out = keeper.stdout.take().expect("a pipe");
        BufReader::new(out).read_line(&mut line).expect("a process id");
        let java = line.trim().parse().ok().and_then(Pid::from_raw).expect("a process id");
        let pipe = keeper.stdin.take().expect("a pipe");
        self.running = Some(Running { keeper, pipe, java });
    }

    /// Waits until it serves; false when it ends before, as it does when somebody has its port.
    fn comes_up(&mut self) -> bool {
        let Some(java) = self.running.as_ref().map(|running| running.java.as_raw_nonzero()) else {
            return false;
        };
        // The shell does not wait for it: what has ended stays as a zombie (`Z` behind the name).
        let lives = || {
            let state = std::fs::read_to_string(format!("/proc/{java}/stat")).unwrap_or_default();
            state.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
        };
        let mut up = false;
        // Several JVMs that start at once take their time.
        wait_within(4 * PATIENCE, "ZooKeeper serves", || {
            up = self.mode().is_some();
            up || !lives()
        });
        up
    }

    /// What it is, when it serves: `standalone`, `leader` or `follower`.
    fn mode(&self) -> Option<String> {
        let answer = self.ask("srvr").ok()?;
        answer.lines().find_map(|line| line.strip_prefix("Mode: ").map(str::to_owned))
    }

    /// Asks by one of the four-letter words.
    fn ask(&self, word: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(self.address())?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(word.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    fn signal(&self, signal: Signal) {
        if let Some(running) = &self.running {
            kill_process(running.java, signal).expect("a signal");
        }
    }

    fn kill(&mut self) {
        if let Some(Running { mut keeper, mut pipe, .. }) = self.running.take() {
            // The folder is needed again, or removed below.
            let _ = pipe.write_all(b"keep\n");
            let _ = keeper.wait();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

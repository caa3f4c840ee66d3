//! Man pages and completions, as files for packages.

use std::fs;
use std::path::Path;

use crate::app::command_error::CommandError;

/// Where package managers of each shell look, below `share/`.
const SHELLS: &[(clap_complete::Shell, &str)] = &[
    (clap_complete::Shell::Bash, "bash-completion/completions/rask"),
    (clap_complete::Shell::Zsh, "zsh/site-functions/_rask"),
    (clap_complete::Shell::Fish, "fish/vendor_completions.d/rask.fish"),
];

/// Writes `man/man1/*.1` and the shells' completions below `folder`.
pub fn generate_docs(command: clap::Command, folder: &Path) -> Result<(), CommandError> {
    let failed = |why: std::io::Error| CommandError::world(format!("cannot write below {}: {why}", folder.display()));
    let man = folder.join("man").join("man1");
    fs::create_dir_all(&man).map_err(failed)?;
    // Version and date in the footer would make each build differ; the version is in the head of the page.
    clap_mangen::generate_to(command.clone(), &man).map_err(failed)?;
    for (shell, path) in SHELLS {
        let mut script = Vec::new();
        clap_complete::generate(*shell, &mut command.clone(), "rask", &mut script);
        let path = folder.join(path);
        let parent = path.parent().unwrap_or(folder);
        fs::create_dir_all(parent).and_then(|()| fs::write(&path, script)).map_err(failed)?;
    }
    Ok(())
}

//! Variables of the environment, and programs on `PATH`.

use std::path::PathBuf;

pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&variable("PATH")?).map(|dir| dir.join(name)).find(|path| path.is_file())
}

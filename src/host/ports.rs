//! Who listens on a TCP port of this machine, as `/proc` tells.

use std::fs;
use std::path::Path;

/// State `LISTEN` in `/proc/net/tcp`. Source: `include/net/tcp_states.h`.
const LISTEN: &str = "0A";
/// Of a command line that is shown. Unit: characters.
const NAME_MAX: usize = 60;

/// Who has a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortHolder {
    /// The user whose socket it is.
    pub uid: u32,
    /// Its process and command line. None: another user's, which we may not look into.
    pub process: Option<(u32, String)>,
}

/// Who listens on `port`, on any address. `None`: nobody in this network namespace.
pub fn holder_of(port: u16) -> Option<PortHolder> {
    holder_in(Path::new("/"), port)
}

fn holder_in(root: &Path, port: u16) -> Option<PortHolder> {
    let table = |name: &str| fs::read_to_string(root.join("proc/net").join(name)).unwrap_or_default();
    let (uid, inode) = ["tcp", "tcp6"]
        .into_iter()
        .find_map(|name| table(name).lines().skip(1).find_map(|line| listener(line, port)))?;
    Some(PortHolder { uid, process: process_of(root, &inode) })
}

/// User and inode of a line that is a listener on `port`.
fn listener(line: &str, port: u16) -> Option<(u32, String)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (local, state) = (fields.get(1)?, fields.get(3)?);
    let own = u16::from_str_radix(local.rsplit(':').next()?, 16).ok()?;
    if own != port || *state != LISTEN {
        return None;
    }
    Some((fields.get(7)?.parse().ok()?, (*fields.get(9)?).to_owned()))
}

fn process_of(root: &Path, inode: &str) -> Option<(u32, String)> {
    let wanted = format!("socket:[{inode}]");
    let processes = fs::read_dir(root.join("proc")).ok()?.flatten();
    processes
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path())))
        .find(|(_, folder)| {
            // Folders of other users' processes cannot be read: they are passed over.
            let open = fs::read_dir(folder.join("fd")).into_iter().flatten().flatten();
            open.into_iter().any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str() == wanted.as_str()))
        })
        .map(|(pid, folder)| (pid, name_of(&folder)))
}

fn name_of(folder: &Path) -> String {
    let line = fs::read(folder.join("cmdline")).unwrap_or_default();
    let words: Vec<String> =
        line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    words.join(" ").trim().chars().take(NAME_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_listener_is_found_with_its_process() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let holder = holder_of(port).expect("we listen");
        let (pid, name) = holder.process.expect("our own process");
        assert_eq!(pid, std::process::id());
        assert!(!name.is_empty());
        drop(listener);
        assert_eq!(holder_of(port), None);
    }
}

//! The appliance's own certificate authority: a folder of the state folder, read or made once.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::state_dir::{private_folder, write_private};
use crate::app::command_error::CommandError;
use crate::pki::Authority;

/// Where the appliance's certificates are.
pub(crate) fn folder(state: &Path) -> PathBuf {
    state.join("ca")
}

/// The appliance's authority: read, or made once.
pub(crate) fn authority(state: &Path) -> Result<Authority, CommandError> {
    let folder = folder(state);
    private_folder(&folder)?;
    let (cert, key) = (folder.join("ca.crt"), folder.join("ca.key"));
    let unusable = |why: String| {
        CommandError::world(format!("{}: {why}", folder.display()))
            .remedy("restore it, or remove it: then other machines must join again")
    };
    match (fs::read_to_string(&cert), fs::read_to_string(&key)) {
        (Ok(cert), Ok(key)) => Authority::from_pem(&cert, &key).map_err(|why| unusable(why.to_string())),
        (Ok(_), Err(why)) => Err(unusable(format!("the authority's key cannot be read: {why}"))),
        // One that is there and cannot be read must not be replaced: machines trust it.
        (Err(why), _) if why.kind() != io::ErrorKind::NotFound => {
            Err(unusable(format!("the authority's certificate cannot be read: {why}")))
        }
        (Err(_), _) => {
            let authority = Authority::make().map_err(CommandError::world)?;
            // The key first: a certificate without it would be taken for an authority that lost its key.
            write_private(&key, &authority.pair().key_pem)?;
            write_private(&cert, &authority.pair().cert_pem)?;
            Ok(authority)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_authority_is_made_once_and_kept_private() {
        let state = std::env::temp_dir().join(format!("rask-authority-{}", std::process::id()));
        let made = authority(&state).expect("made");
        let read = authority(&state).expect("read");
        assert_eq!(made.pair(), read.pair());
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(&folder(&state)), 0o700);
        for file in ["ca.crt", "ca.key"] {
            assert_eq!(mode(&folder(&state).join(file)), 0o600, "{file}");
        }
        fs::write(folder(&state).join("ca.key"), "nonsense").expect("written");
        assert!(authority(&state).is_err());
        // A lost key is said, not made up for: other machines would have to join again.
        fs::remove_file(folder(&state).join("ca.key")).expect("removed");
        assert!(authority(&state).is_err());
        assert_eq!(fs::read_to_string(folder(&state).join("ca.crt")).expect("kept"), made.pair().cert_pem);
        fs::remove_dir_all(state).expect("removed");
    }
}

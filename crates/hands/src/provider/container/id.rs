//! A name for a data directory that stays with it wherever it is, and that no other one has: engines may serve several.

use std::fs;
use std::io;
use std::path::Path;

use crate::provider::namespace::files;

const NAME: &str = ".id";

/// The name of this folder, made once. Several servers may ask at once, and all get the same.
pub(super) fn of(folder: &Path) -> io::Result<String> {
    let path = folder.join(NAME);
    if let Some(known) = read(&path)? {
        return Ok(known);
    }
    let aside = folder.join(files::unique());
    files::replace(
        &aside,
        format!("{:016x}", rand::random::<u64>()).as_bytes(),
        0o600,
    )?;
    // Unlike a renaming, this leaves what another server was faster with.
    let linked = fs::hard_link(&aside, &path);
    fs::remove_file(&aside)?;
    match linked {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    read(&path)?.ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn read(path: &Path) -> io::Result<Option<String>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        Ok(Some(text))
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} is damaged", path.display()),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sbx_8_a_data_directory_keeps_its_name_and_shares_it_with_none() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let all: Vec<String> = std::thread::scope(|scope| {
            let asked: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| of(one.path()).unwrap()))
                .collect();
            asked
                .into_iter()
                .map(|asked| asked.join().unwrap())
                .collect()
        });
        assert!(all.iter().all(|name| *name == all[0]), "{all:?}");
        assert_eq!(of(one.path()).unwrap(), all[0]);
        assert_ne!(of(other.path()).unwrap(), all[0]);
        assert_eq!(
            fs::read_dir(one.path()).unwrap().count(),
            1,
            "nothing aside"
        );
        fs::write(one.path().join(NAME), "../../x").unwrap();
        assert_eq!(
            of(one.path()).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }
}

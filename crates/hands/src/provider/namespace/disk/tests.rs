use super::*;
use crate::provider::namespace::files::open_directory;

/// An empty disk of 4 MiB, where this host has them: a root server's with loop devices.
fn disk() -> Option<(tempfile::TempDir, OwnedFd, OwnedFd)> {
    let disks = Disks::default();
    assert_eq!(disks.usable().is_ok(), is_root(), "{:?}", disks.usable());
    disks.usable().ok()?;
    let home = tempfile::tempdir().unwrap();
    let folder = open_directory(home.path()).unwrap();
    let root = disks.make(&folder, 4 << 20).unwrap();
    Some((home, folder, root))
}

fn write(root: &OwnedFd, name: &str, content: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    let file = File::from(openat(root, name, flags, Mode::from(0o600))?);
    file.write_all_at(content, 0)?;
    file.sync_all()
}

fn read(root: &OwnedFd, name: &str) -> io::Result<Vec<u8>> {
    let file = openat(root, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut content = Vec::new();
    File::from(file).read_to_end(&mut content)?;
    Ok(content)
}

#[test]
fn sbx_3_a_disk_holds_so_many_bytes_and_keeps_them_from_mount_to_mount() {
    let Some((_home, folder, root)) = disk() else {
        return;
    };
    write(&root, "kept", b"kept").unwrap();
    let full = write(&root, "large", &vec![1; 5 << 20]).unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    // A second mount is of the same device and shows the same files at once.
    let second = open(&folder).unwrap();
    write(&second, "more", b"more").unwrap();
    assert_eq!(read(&root, "more").unwrap(), b"more");
    assert_eq!(device(&folder).unwrap().into_iter().count(), 1);
    drop((root, second));
    let again = open(&folder).unwrap();
    assert_eq!(read(&again, "kept").unwrap(), b"kept");
}

/// What shows another file by now, or none, is not taken for the disk's device.
#[test]
fn sbx_8_a_number_that_is_out_of_date_leads_to_no_other_disk() {
    let (Some((_one, first, root)), Some((_other, second, others))) = (disk(), disk()) else {
        return;
    };
    write(&root, "whose", b"first").unwrap();
    write(&others, "whose", b"second").unwrap();
    let theirs = device(&second).unwrap().expect("a device");
    drop(root);
    for number in [theirs, 4_000_000] {
        remember(&first, number).unwrap();
        assert_eq!(read(&open(&first).unwrap(), "whose").unwrap(), b"first");
    }
}

/// A host that loses its power leaves the file as it is while it is mounted.
#[test]
fn sbx_3_a_disk_that_was_not_unmounted_in_order_is_mended_or_refused() {
    let Some((home, _folder, root)) = disk() else {
        return;
    };
    write(&root, "kept", b"kept").unwrap();
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = openat(&root, ".", flags, Mode::empty()).unwrap();
    rustix::fs::syncfs(&top).unwrap();
    let cut = tempfile::tempdir().unwrap();
    std::fs::copy(home.path().join(NAME), cut.path().join(NAME)).unwrap();
    let folder = open_directory(cut.path()).unwrap();
    let file = File::open(cut.path().join(NAME)).unwrap();
    assert!(!is_clean(&file).unwrap(), "it was mounted");
    let mended = open(&folder).unwrap();
    assert_eq!(read(&mended, "kept").unwrap(), b"kept");
    drop(mended);

    let lost = tempfile::tempdir().unwrap();
    std::fs::write(lost.path().join(NAME), vec![0; 4 << 20]).unwrap();
    let refused = open(&open_directory(lost.path()).unwrap()).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
}

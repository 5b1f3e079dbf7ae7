use std::os::unix::fs::{PermissionsExt, symlink};

use tar::{Builder, EntryType, Header};

use super::*;

/// One entry: its type, path, what it holds or leads to, its mode.
type Item<'a> = (EntryType, &'a str, &'a str, u32);

const SYSTEM: [Item<'static>; 3] = [
    (EntryType::Directory, "etc", "", 0o755),
    (EntryType::Regular, "usr/bin/tool", "#!/bin/sh\n", 0o4755),
    (EntryType::Symlink, "bin", "usr/bin", 0o777),
];

fn tar(items: &[Item<'_>]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (kind, path, content, mode) in items {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(*mode);
        // Written by hand: the builder itself refuses paths that lead out.
        let name = &mut header.as_gnu_mut().unwrap().name;
        name[..path.len()].copy_from_slice(path.as_bytes());
        let links = kind.is_symlink() || kind.is_hard_link();
        if links {
            let link = &mut header.as_gnu_mut().unwrap().linkname;
            link[..content.len()].copy_from_slice(content.as_bytes());
        }
        let content = if links { "" } else { content };
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

fn unpacked(home: &Path, name: &str, bytes: &[u8]) -> io::Result<PathBuf> {
    let file = home.join(name);
    fs::write(&file, bytes).unwrap();
    ensure(&file, &home.join("images"))
}

#[test]
fn inp_3_tarballs_are_unpacked_once_whatever_they_are_compressed_with() {
    let home = tempfile::tempdir().unwrap();
    let plain_tar = tar(&SYSTEM);
    let zstd = zstd::encode_all(&plain_tar[..], 1).unwrap();
    for (name, bytes) in [
        ("a.tar", plain_tar.clone()),
        ("a.tar.gz", gzip(&plain_tar)),
        ("a.tar.zst", zstd),
    ] {
        let root = unpacked(home.path(), name, &bytes).unwrap();
        let tool = fs::metadata(root.join("usr/bin/tool")).unwrap();
        assert_eq!(
            tool.permissions().mode() & 0o7777,
            0o755,
            "and no more rights"
        );
        assert_eq!(
            fs::read_link(root.join("bin")).unwrap(),
            Path::new("usr/bin")
        );
        fs::write(root.join("mark"), "").unwrap();
        let again = ensure(&home.path().join(name), &home.path().join("images")).unwrap();
        assert!(again.join("mark").exists(), "unpacked once");
    }
    let left = fs::read_dir(home.path().join("images")).unwrap().flatten();
    let left = left.filter(|entry| entry.file_name().to_string_lossy().starts_with('.'));
    assert_eq!(left.count(), 0);
}

/// security SBX-4
#[test]
fn inp_3_nothing_is_written_outside_and_nothing_odd_inside() {
    let home = tempfile::tempdir().unwrap();
    let outside = home.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let away = outside.to_string_lossy().into_owned();
    let check = |name: &str, items: &[Item<'_>], problem: Option<&str>| {
        let all: Vec<_> = SYSTEM.iter().chain(items).copied().collect();
        let found = unpacked(home.path(), name, &tar(&all));
        match (problem, &found) {
            (None, Ok(_)) => {}
            (Some(words), Err(error)) if error.to_string().contains(words) => {}
            _ => panic!("{name}: {found:?} instead of {problem:?}"),
        }
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{name}");
        found.ok()
    };
    let file = EntryType::Regular;
    let out = Some("leads out of it");
    check("up", &[(file, "usr/../../x", "x", 0o644)], out);
    check("link-up", &[(EntryType::Link, "x", "../outside/x", 0)], out);
    // Links lead where they would lead inside, and there is nothing there.
    let through = [
        (EntryType::Symlink, "way", &*away, 0),
        (file, "way/x", "x", 0o644),
    ];
    check("through", &through, Some("No such file"));
    let over = [
        (EntryType::Symlink, "over", &*away, 0),
        (EntryType::Regular, "over", "x", 0o644),
    ];
    check("over", &over, Some("twice"));
    check("twice", &[(file, "usr/bin/tool", "", 0o755)], Some("twice"));
    let device = (EntryType::Char, "usr/null", "", 0o666);
    check("device", &[device], Some("no file, folder or link"));
    let own = check("dev", &[(EntryType::Char, "dev/null", "", 0o666)], None);
    assert!(!own.unwrap().join("dev/null").exists());
    let queue = (EntryType::Fifo, "etc/queue", "", 0o666);
    check("queue", &[queue], Some("no file, folder or link"));
    for name in ["usr", "etc"] {
        let only: Vec<_> = [(EntryType::Symlink, name, &*away, 0)].to_vec();
        let found = unpacked(home.path(), &format!("no-{name}"), &tar(&only));
        assert!(found.unwrap_err().to_string().contains("no folder"));
    }
    assert!(unpacked(home.path(), "noise", &[7; 2048]).is_err());
    let names = fs::read_dir(home.path().join("images/.trash")).unwrap();
    assert_eq!(names.count(), 0, "nothing stays of what was refused");
}

#[test]
fn inp_3_layers_of_an_oci_layout_lie_on_top_of_each_other_and_are_checked() {
    let home = tempfile::tempdir().unwrap();
    let layout = home.path().join("layout");
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(layout.join("oci-layout"), "{}").unwrap();
    let put = |bytes: &[u8]| {
        let name = digest(bytes).unwrap();
        fs::write(blobs.join(&name), bytes).unwrap();
        format!("sha256:{name}")
    };
    let file = EntryType::Regular;
    let below = [
        (file, "usr/gone", "x", 0o644),
        (file, "usr/share/old/x", "x", 0o644),
        (file, "usr/kept", "below", 0o644),
    ];
    let below: Vec<_> = SYSTEM.iter().chain(&below).copied().collect();
    let above = [
        (file, "usr/.wh.gone", "", 0),
        (file, "usr/share/old/.wh..wh..opq", "", 0),
        (file, "usr/share/old/new", "x", 0o644),
        (file, "usr/kept", "above", 0o644),
        (file, "bin/more", "x", 0o755),
    ];
    let (below, above) = (put(&gzip(&tar(&below))), put(&tar(&above)));
    let manifest = serde_json::json!({"layers": [{"digest": below}, {"digest": above}]});
    let manifest = put(manifest.to_string().as_bytes());
    let index = serde_json::json!({"manifests": [
        {"digest": "sha256:00", "platform": {"architecture": "pdp11", "os": "linux"}},
        {"digest": manifest},
    ]});
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
    let root = ensure(&layout, &home.path().join("images")).unwrap();
    let there = |path: &str| root.join(path).exists();
    assert!(!there("usr/gone") && !there("usr/share/old/x") && there("usr/share/old/new"));
    assert_eq!(fs::read_to_string(root.join("usr/kept")).unwrap(), "above");
    assert!(there("usr/bin/more"), "by way of the image's link");

    let damaged = blobs.join(&above["sha256:".len()..]);
    fs::write(&damaged, "other").unwrap();
    let error = ensure(&layout, &home.path().join("others")).unwrap_err();
    assert!(error.to_string().contains("damaged"), "{error}");
}

#[test]
fn sbx_4_what_the_host_reads_of_an_image_is_reached_by_no_link() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path();
    fs::create_dir_all(root.join("etc/apt")).unwrap();
    fs::write(root.join("etc/passwd"), "").unwrap();
    symlink("/etc/shadow", root.join("etc/group")).unwrap();
    symlink("/root", root.join("var")).unwrap();
    let check =
        |below: &str, found: bool| assert_eq!(plain(root, below).is_some(), found, "{below}");
    check("etc/passwd", true);
    check("etc/apt", true);
    check("etc/group", false);
    check("var/lib/dpkg", false);
    check("etc/../etc/passwd", false);
    check("etc/none", false);
    assert!(Image::check(&root.join("none")).is_err() && Image::check(Path::new("x")).is_err());
    assert!(Image::check(root).is_err(), "there is no usr");
    fs::create_dir(root.join("usr")).unwrap();
    assert_eq!(Image::check(root), Ok(Image::Folder));
}

//! The image that containers are made from: the operator's, with `sandboxd` and the folders of a sandbox in it. Nothing of
//! the host is shared for that, so it works on engines in a virtual machine too.

use std::io::{self, Read as _};
use std::path::Path;

use bollard::models::{ContainerConfig, ContainerCreateBody};
use bollard::query_parameters::{
    CommitContainerOptions, DownloadFromContainerOptions, UploadToContainerOptions,
};
use futures::TryStreamExt as _;
use manyhands_protocol::skill::SKILLS;
use tar::{Archive, Builder, EntryType, Header};

use super::engine::{Engine, failed, status};
use super::site::Site;
use super::spec::{FILTERS, KEEPER, SANDBOXD, TRUST, USER};
use crate::Error;
use crate::provider::Missing;
use crate::provider::namespace::fingerprint;

/// Changes when what is put into images does.
const EDITION: u8 = 3;

/// The name of the images that are made here; the tag tells the content.
const NAME: &str = "localhost/manyhands-sandbox";

/// The longest list of users that is read from an image, in bytes.
const LONGEST_LIST: usize = 1 << 20;

/// What programs are looked for in, where an image does not say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An image that is ready.
#[derive(Clone)]
pub(super) struct Image {
    pub(super) name: String,
    /// Where it keeps its programs.
    pub(super) path: String,
    /// Whether packages of an environment are installed in it.
    pub(super) packaged: bool,
}

/// What is put into an image.
pub(super) struct Contents {
    pub(super) sandboxd: Vec<u8>,
    pub(super) filters: Vec<Vec<u8>>,
}

/// The image for containers made from `base`, with these files for [`TRUST`], made if there is none yet, from a container in
/// the folder of this data directory's.
pub(super) async fn ensure(
    engine: &Engine,
    containers: &Path,
    base: &str,
    data: &str,
    contents: &Contents,
    trust: &[(&str, &[u8])],
) -> Result<Image, Error> {
    let docker = engine.docker().await?;
    let found = match docker.inspect_image(base).await {
        Ok(found) => found,
        Err(error) if status(&error) == Some(404) => {
            return Err(Missing {
                what: format!("the image {base} is missing"),
                why: "the container engine does not have it".to_owned(),
                install: "pull it, or make one with scripts/container-image".to_owned(),
            }
            .into());
        }
        Err(error) => return Err(failed(&format!("look at the image {base}"), &error)),
    };
    let id = found.id.unwrap_or_default();
    let variables = found.config.and_then(|config| config.env);
    let tag = tag(&id, contents, trust);
    let image = Image {
        name: format!("{NAME}:{tag}"),
        path: path_of(&variables.unwrap_or_default()),
        packaged: false,
    };
    if engine.has_image(&image.name).await? {
        return Ok(image);
    }
    let site = Site::new(containers).await?;
    let made = make(engine, base, data, &(contents, trust), &site, &tag).await;
    let closed = site.close(engine).await;
    made.and(closed)?;
    Ok(image)
}

async fn make(
    engine: &Engine,
    base: &str,
    data: &str,
    (contents, trust): &(&Contents, &[(&str, &[u8])]),
    site: &Site,
    tag: &str,
) -> Result<(), Error> {
    let docker = engine.docker().await?;
    // Never started.
    let body = ContainerCreateBody {
        image: Some(base.to_owned()),
        entrypoint: Some(vec![SANDBOXD.to_owned()]),
        network_disabled: Some(true),
        ..ContainerCreateBody::default()
    };
    let name = &site.name;
    site.create(engine, data, body).await?;
    let users = read(engine, name, "/etc/passwd").await?;
    let groups = read(engine, name, "/etc/group").await?;
    let packed = pack(contents, trust, &users, &groups)
        .map_err(|error| Error::io("pack what goes into the image of sandboxes", error))?;
    let options = UploadToContainerOptions {
        path: "/".to_owned(),
        ..UploadToContainerOptions::default()
    };
    docker
        .upload_to_container(name, Some(options), bollard::body_full(packed.into()))
        .await
        .map_err(|error| failed("fill the image of sandboxes", &error))?;
    let options = CommitContainerOptions {
        container: Some(name.clone()),
        repo: Some(NAME.to_owned()),
        tag: Some(tag.to_owned()),
        pause: false,
        ..CommitContainerOptions::default()
    };
    docker
        .commit_container(options, ContainerConfig::default())
        .await
        .map_err(|error| failed("make the image of sandboxes", &error))?;
    Ok(())
}

/// A file of a container; empty where there is none.
async fn read(engine: &Engine, name: &str, path: &str) -> Result<String, Error> {
    let docker = engine.docker().await?;
    let options = DownloadFromContainerOptions {
        path: path.to_owned(),
    };
    let mut pieces = std::pin::pin!(docker.download_from_container(name, Some(options)));
    let mut packed = Vec::new();
    let doing = format!("read {path} of the image");
    loop {
        match pieces.try_next().await {
            Ok(Some(piece)) if packed.len() + piece.len() <= LONGEST_LIST => {
                packed.extend_from_slice(&piece);
            }
            Ok(Some(_)) => {
                return Err(Error::io(doing, io::Error::other("it is too long")));
            }
            Ok(None) => break,
            Err(error) if status(&error) == Some(404) => return Ok(String::new()),
            Err(error) => return Err(failed(&doing, &error)),
        }
    }
    unpack(&packed).map_err(|error| Error::io(doing, error))
}

/// The text of the one file in an archive.
fn unpack(packed: &[u8]) -> io::Result<String> {
    let mut text = String::new();
    for entry in Archive::new(packed).entries()? {
        let mut entry = entry?;
        if entry.header().entry_type() == EntryType::Regular {
            entry.read_to_string(&mut text)?;
        }
    }
    Ok(text)
}

/// Everything that is put into an image, as an archive.
fn pack(
    contents: &Contents,
    trust: &[(&str, &[u8])],
    users: &str,
    groups: &str,
) -> io::Result<Vec<u8>> {
    let mut archive = Builder::new(Vec::new());
    let root = |mode| Owner { id: 0, mode };
    let own = |mode| Owner { id: USER, mode };
    let kept = |mode| Owner { id: KEEPER, mode };
    folder(&mut archive, "usr/libexec/manyhands", root(0o755))?;
    file(&mut archive, SANDBOXD, &contents.sandboxd, root(0o555))?;
    for (path, filter) in FILTERS.iter().zip(&contents.filters) {
        file(&mut archive, path, filter, root(0o444))?;
    }
    if !trust.is_empty() {
        folder(&mut archive, TRUST.trim_start_matches('/'), root(0o755))?;
    }
    for (name, content) in trust {
        let path = format!("{TRUST}/{name}");
        file(&mut archive, &path, content, root(0o444))?;
    }
    let users = with(
        users,
        "agent",
        &format!("x:{USER}:{USER}::/home/agent:/bin/bash"),
    );
    file(&mut archive, "/etc/passwd", users.as_bytes(), root(0o644))?;
    let groups = with(groups, "agent", &format!("x:{USER}:"));
    file(&mut archive, "/etc/group", groups.as_bytes(), root(0o644))?;
    folder(&mut archive, "mnt/session", root(0o755))?;
    folder(&mut archive, "mnt/session/outputs", own(0o755))?;
    folder(&mut archive, SKILLS.trim_start_matches('/'), kept(0o755))?;
    folder(&mut archive, "mnt/session/uploads", kept(0o755))?;
    folder(&mut archive, "mnt/memory", kept(0o755))?;
    folder(&mut archive, "workspace", own(0o755))?;
    folder(&mut archive, "home/agent", own(0o755))?;
    folder(&mut archive, "tmp", own(0o1777))?;
    archive.into_inner()
}

/// Files of root's, as an archive: path, content and mode.
pub(super) fn files(all: &[(&str, String, u32)]) -> io::Result<Vec<u8>> {
    let mut archive = Builder::new(Vec::new());
    for (path, content, mode) in all {
        let owner = Owner { id: 0, mode: *mode };
        file(&mut archive, path, content.as_bytes(), owner)?;
    }
    archive.into_inner()
}

#[derive(Clone, Copy)]
struct Owner {
    id: u32,
    mode: u32,
}

fn folder(archive: &mut Builder<Vec<u8>>, path: &str, owner: Owner) -> io::Result<()> {
    let mut header = header(EntryType::Directory, 0, owner);
    archive.append_data(&mut header, format!("{path}/"), io::empty())
}

fn file(
    archive: &mut Builder<Vec<u8>>,
    path: &str,
    content: &[u8],
    owner: Owner,
) -> io::Result<()> {
    let mut header = header(EntryType::Regular, content.len() as u64, owner);
    archive.append_data(&mut header, path.trim_start_matches('/'), content)
}

fn header(kind: EntryType, size: u64, Owner { id, mode }: Owner) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(mode);
    header.set_uid(id.into());
    header.set_gid(id.into());
    header
}

/// A list of users or groups in which the one of sandboxes has a name.
fn with(list: &str, name: &str, rest: &str) -> String {
    let number = USER.to_string();
    let known = list.lines().any(|line| {
        let mut fields = line.split(':');
        fields.next() == Some(name) || fields.nth(1) == Some(&number)
    });
    let mut list = list.to_owned();
    if !known {
        if !list.is_empty() && !list.ends_with('\n') {
            list.push('\n');
        }
        list.push_str(&format!("{name}:{rest}\n"));
    }
    list
}

/// A name for what an image is made of.
fn tag(base: &str, contents: &Contents, trust: &[(&str, &[u8])]) -> String {
    let mut all = format!("{EDITION} {base}").into_bytes();
    for part in [&contents.sandboxd].into_iter().chain(&contents.filters) {
        all.extend(fingerprint(part).to_ne_bytes());
    }
    for (name, content) in trust {
        all.extend(name.as_bytes());
        all.extend(fingerprint(content).to_ne_bytes());
    }
    format!("{:016x}", fingerprint(&all))
}

fn path_of(variables: &[String]) -> String {
    let found = variables.iter().find_map(|it| it.strip_prefix("PATH="));
    found.unwrap_or(PATH).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_of_sandboxes_gets_a_name_where_it_has_none() {
        let check =
            |list: &str, expected: &str| assert_eq!(with(list, "agent", "x:1000:1000"), expected);
        check("root:x:0:0\n", "root:x:0:0\nagent:x:1000:1000\n");
        check("root:x:0:0", "root:x:0:0\nagent:x:1000:1000\n");
        check("", "agent:x:1000:1000\n");
        check("ubuntu:x:1000:1000\n", "ubuntu:x:1000:1000\n");
        check("agent:x:5:5\n", "agent:x:5:5\n");
    }

    /// security SBX-1: what decides over a sandbox inside belongs to root, and only its own folders to its user.
    #[test]
    fn sbx_1_an_images_parts_have_the_right_owners() {
        let contents = Contents {
            sandboxd: b"program".to_vec(),
            filters: vec![b"a".to_vec(), b"b".to_vec(), b"c".to_vec()],
        };
        let trust: [(&str, &[u8]); 1] = [("roots.pem", b"roots")];
        let packed = pack(&contents, &trust, "", "").unwrap();
        let mut seen = Vec::new();
        for entry in Archive::new(packed.as_slice()).entries().unwrap() {
            let entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let path = path.trim_end_matches('/').to_owned();
            let header = entry.header();
            seen.push((path, header.uid().unwrap(), header.mode().unwrap()));
        }
        let owner = |path: &str| {
            let found = seen.iter().find(|(seen, ..)| seen == path);
            found.map(|(_, id, mode)| (*id, *mode)).unwrap()
        };
        assert_eq!(owner("usr/libexec/manyhands/sandboxd"), (0, 0o555));
        assert_eq!(owner("usr/libexec/manyhands/filter-2"), (0, 0o444));
        assert_eq!(owner("usr/libexec/manyhands/trust/roots.pem"), (0, 0o444));
        assert_eq!(owner("etc/passwd"), (0, 0o644));
        assert_eq!(owner("mnt/session/uploads"), (u64::from(KEEPER), 0o755));
        let writable = seen.iter().filter(|(_, id, _)| *id == u64::from(USER));
        let writable: Vec<_> = writable.map(|(path, ..)| path.as_str()).collect();
        assert_eq!(
            writable,
            ["mnt/session/outputs", "workspace", "home/agent", "tmp"]
        );
    }

    #[test]
    fn an_image_is_made_anew_when_its_parts_change() {
        let contents = |program: &[u8], filter: &[u8]| Contents {
            sandboxd: program.to_vec(),
            filters: vec![filter.to_vec()],
        };
        let tag = |base, program, filter| tag(base, &contents(program, filter), &[]);
        let first = tag("id", b"a", b"b");
        assert_eq!(first, tag("id", b"a", b"b"));
        assert_ne!(first, tag("other", b"a", b"b"));
        assert_ne!(first, tag("id", b"c", b"b"));
        assert_ne!(first, tag("id", b"a", b"c"));
        let trusting = |roots| super::tag("id", &contents(b"a", b"b"), &[("roots.pem", roots)]);
        assert_ne!(first, trusting(b""));
        assert_ne!(trusting(b"a"), trusting(b"b"));
    }

    #[test]
    fn programs_are_looked_for_where_the_image_says() {
        let given = ["A=b".to_owned(), "PATH=/opt/bin:/bin".to_owned()];
        assert_eq!(path_of(&given), "/opt/bin:/bin");
        assert_eq!(path_of(&[]), PATH);
    }
}

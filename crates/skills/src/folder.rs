//! A skill's folder, complete and checked.

use std::collections::btree_map::Entry as Place;
use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use crate::{FILES, MANIFEST, Manifest, Problem, TOTAL, archive, manifest, path};

/// A file as it comes from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its path, which begins with the skill's folder.
    pub path: String,
    /// Its content.
    pub bytes: Bytes,
    /// Whether it may be run.
    pub executable: bool,
}

impl File {
    /// A file that came without its permissions: what begins as a script may be run.
    pub fn plain(path: String, bytes: Bytes) -> Self {
        Self {
            executable: bytes.starts_with(b"#!"),
            path,
            bytes,
        }
    }
}

/// A file of a skill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its content.
    pub bytes: Bytes,
    /// Whether it may be run.
    pub executable: bool,
}

/// A skill: what it says of itself, and its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    manifest: Manifest,
    files: BTreeMap<String, Entry>,
}

impl Folder {
    /// Checks files that came from outside: they share one top folder, which has the name that the `SKILL.md` in it says
    /// (api §19), and no two of them could land on one name (security INP-3). What a Mac adds to archives is left out.
    ///
    /// # Errors
    /// [`Problem`] says what is wrong, and with which file.
    pub fn new(files: impl IntoIterator<Item = File>) -> Result<Self, Problem> {
        let mut checked = Checked::default();
        for file in files {
            checked.add(file)?;
        }
        checked.finish()
    }

    /// What it says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Its files, by their paths below the folder.
    pub fn files(&self) -> &BTreeMap<String, Entry> {
        &self.files
    }

    /// The one archive of it: a zip with the folder in it. Equal folders have equal archives.
    ///
    /// # Errors
    /// [`Problem::Refused`] when the writer of archives gives up, which it has no reason for.
    pub fn archive(&self) -> Result<Vec<u8>, Problem> {
        archive::write(&self.manifest.name, &self.files)
    }
}

#[derive(Default)]
struct Checked {
    top: Option<String>,
    files: BTreeMap<String, Entry>,
    /// Each name by its folded form, files and folders alike.
    names: HashMap<String, Name>,
    total: usize,
}

#[derive(PartialEq, Eq)]
enum Name {
    Folder(String),
    File,
}

impl Checked {
    fn add(&mut self, file: File) -> Result<(), Problem> {
        let path = path::canonical(&file.path)?;
        if is_left_by_a_mac(&path) {
            return Ok(());
        }
        let Some((top, below)) = path.split_once('/') else {
            return Err(Problem::at(
                &path,
                "is in no folder: all files of a skill are in one folder of its name",
            ));
        };
        match &self.top {
            Some(other) if other != top => {
                return Err(Problem::at(
                    &path,
                    &format!("is not in the folder {other:?}, as the files before it are"),
                ));
            }
            Some(_) => {}
            None => self.top = Some(top.to_owned()),
        }
        if self.files.len() == FILES {
            return Err(Problem::refused(format!(
                "a skill has at most {FILES} files"
            )));
        }
        self.total = self.total.saturating_add(file.bytes.len());
        if self.total > TOTAL {
            return Err(Problem::TooLarge);
        }
        self.name(below)?;
        match self.files.entry(below.to_owned()) {
            Place::Occupied(_) => Err(Problem::at(below, "is given twice")),
            Place::Vacant(place) => {
                place.insert(Entry {
                    bytes: file.bytes,
                    executable: file.executable,
                });
                Ok(())
            }
        }
    }

    /// Notes the names of a file and of the folders above it.
    fn name(&mut self, below: &str) -> Result<(), Problem> {
        let clash = || Problem::at(below, "could land on the name of another file or folder");
        for (end, _) in below.match_indices('/') {
            let folder = &below[..end];
            let name = Name::Folder(folder.to_owned());
            match self.names.get(&path::folded(folder)) {
                Some(other) if *other != name => return Err(clash()),
                Some(_) => {}
                None => {
                    self.names.insert(path::folded(folder), name);
                }
            }
        }
        match self.names.insert(path::folded(below), Name::File) {
            Some(_) => Err(clash()),
            None => Ok(()),
        }
    }

    fn finish(self) -> Result<Folder, Problem> {
        let Some(top) = self.top else {
            return Err(Problem::refused("a skill has at least a SKILL.md"));
        };
        let Some(text) = self.files.get(MANIFEST) else {
            return Err(Problem::refused(format!(
                "the folder {top:?} has no SKILL.md"
            )));
        };
        let manifest = manifest::front_matter(&text.bytes)?;
        if manifest.name != top {
            return Err(Problem::refused(format!(
                "the folder is {top:?}, and its SKILL.md says the name {:?}: they must be the same",
                manifest.name
            )));
        }
        Ok(Folder {
            manifest,
            files: self.files,
        })
    }
}

/// Finder's own notes, which are no part of what was packed.
fn is_left_by_a_mac(path: &str) -> bool {
    path.starts_with("__MACOSX/") || path == ".DS_Store" || path.ends_with("/.DS_Store")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File::plain(path.to_owned(), Bytes::copy_from_slice(text.as_bytes()))
    }

    const HEAD: &str = "---\nname: a\ndescription: b\n---\n";

    #[test]
    fn sk_1_a_folder_with_a_skill_md_is_a_skill() {
        let folder = Folder::new([
            file("a/scripts/run.sh", "#!/bin/sh\n"),
            file("a/SKILL.md", HEAD),
            file("__MACOSX/a/._SKILL.md", "x"),
            file("a/.DS_Store", "x"),
        ])
        .expect("a skill");
        assert_eq!(folder.manifest().name, "a");
        let files: Vec<_> = folder
            .files()
            .iter()
            .map(|(path, entry)| (&**path, entry.executable))
            .collect();
        assert_eq!(files, [("SKILL.md", false), ("scripts/run.sh", true)]);
    }

    #[test]
    fn inp_3_what_is_no_folder_of_a_skill_is_refused() {
        #[track_caller]
        fn check(files: &[(&str, &str)], problem: &str) {
            let files = files.iter().map(|(path, text)| file(path, text));
            let error = Folder::new(files).expect_err(problem).to_string();
            assert!(error.contains(problem), "{error}");
        }
        check(&[], "at least a SKILL.md");
        check(&[("a/.DS_Store", "")], "at least a SKILL.md");
        check(&[("SKILL.md", HEAD)], "is in no folder");
        check(&[("b/SKILL.md", HEAD)], "must be the same");
        check(&[("a/skill.md", HEAD)], "has no SKILL.md");
        check(&[("a/b/SKILL.md", HEAD)], "has no SKILL.md");
        check(&[("a/SKILL.md", "x")], "begins with a line");
        check(
            &[("a/SKILL.md", HEAD), ("b/x", "")],
            "is not in the folder \"a\"",
        );
        check(&[("a/SKILL.md", HEAD), ("a/../x", "")], "not a path below");
        check(
            &[("a/SKILL.md", HEAD), ("/etc/passwd", "")],
            "not a relative path",
        );
        for [one, other] in [
            ["a/x", "a/x"],
            ["a/x", "a/X"],
            ["a/ü", "a/u\u{308}"],
            ["a/x", "a/x/y"],
            ["a/x/y", "a/X"],
            ["a/x/y", "a/X/z"],
        ] {
            let files = [("a/SKILL.md", HEAD), (one, ""), (other, "")];
            check(&files, "could land on the name");
        }
    }

    #[test]
    fn inp_1_files_are_counted_and_weighed() {
        let many = |count: usize| {
            let others = (1..count).map(|n| file(&format!("a/{n}"), ""));
            Folder::new(std::iter::once(file("a/SKILL.md", HEAD)).chain(others))
        };
        assert_eq!(many(FILES).map(|folder| folder.files().len()), Ok(FILES));
        assert!(many(FILES + 1).is_err());
        let heavy = |bytes: usize| {
            let rest = File::plain("a/x".to_owned(), vec![0; bytes - HEAD.len()].into());
            Folder::new([file("a/SKILL.md", HEAD), rest])
        };
        assert!(heavy(TOTAL).is_ok());
        assert_eq!(heavy(TOTAL + 1), Err(Problem::TooLarge));
    }
}

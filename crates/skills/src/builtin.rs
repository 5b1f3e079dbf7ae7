//! The skills that come with the server (api §19). Their files are part of the program.

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;

use crate::{File, Folder, Problem};

/// A skill that comes with the server.
#[derive(Debug)]
pub struct BuiltIn {
    /// What agents name it by, and the name of its folder.
    pub id: &'static str,
    /// A label for people.
    pub title: &'static str,
    /// Its files, by their paths below the folder.
    files: &'static [(&'static str, &'static [u8])],
}

macro_rules! files {
    ($id:literal: $($path:literal)*) => {
        &[$(($path, include_bytes!(concat!("../builtin/", $id, "/", $path)))),*]
    };
}

static ALL: [BuiltIn; 4] = [
    BuiltIn {
        id: "docx",
        title: "Word documents",
        files: files!("docx": "SKILL.md" "scripts/make.py" "scripts/text.py"),
    },
    BuiltIn {
        id: "pdf",
        title: "PDF files",
        files: files!("pdf": "SKILL.md" "scripts/make.py" "scripts/text.py"),
    },
    BuiltIn {
        id: "pptx",
        title: "PowerPoint presentations",
        files: files!("pptx": "SKILL.md" "scripts/make.py" "scripts/text.py"),
    },
    BuiltIn {
        id: "xlsx",
        title: "Excel workbooks",
        files: files!("xlsx": "SKILL.md" "scripts/make.py" "scripts/rows.py"),
    },
];

/// All of them.
pub fn all() -> &'static [BuiltIn] {
    &ALL
}

impl BuiltIn {
    /// Its folder.
    ///
    /// # Errors
    /// [`Problem`] when its files are no skill, which they are.
    pub fn folder(&self) -> Result<Folder, Problem> {
        Folder::new(self.files.iter().map(|(path, bytes)| {
            File::plain(format!("{}/{path}", self.id), Bytes::from_static(bytes))
        }))
    }

    /// Tells its content from that of other versions: 16 hexadecimal digits.
    pub fn digest(&self) -> String {
        let mut all = Vec::new();
        for (path, bytes) in self.files {
            for part in [path.as_bytes(), *bytes] {
                all.extend((part.len() as u64).to_be_bytes());
                all.extend(part);
            }
        }
        let digest = digest(&SHA256, &all);
        let hex = digest.as_ref().iter().take(8);
        hex.map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use super::*;

    #[test]
    fn sk_1_built_in_skills_are_skills() {
        let ids: Vec<&str> = all().iter().map(|skill| skill.id).collect();
        assert_eq!(ids, ["docx", "pdf", "pptx", "xlsx"]);
        for skill in all() {
            let folder = skill.folder().expect(skill.id);
            assert_eq!(folder.manifest().name, skill.id);
            let scripts = folder
                .files()
                .iter()
                .filter(|(path, _)| path.ends_with(".py"));
            assert!(
                scripts.clone().count() == 2 && scripts.clone().all(|(_, file)| file.executable)
            );
            // What the text tells the model to run is there.
            let text = String::from_utf8_lossy(&folder.files()["SKILL.md"].bytes).into_owned();
            for (path, _) in scripts {
                assert!(
                    text.contains(&format!("/mnt/skills/{}/{path}", skill.id)),
                    "{path}"
                );
            }
            let mut others = all().iter().filter(|other| other.id != skill.id);
            assert!(others.all(|other| other.digest() != skill.digest()));
        }
    }

    /// What the scripts make, they can read again.
    #[test]
    fn sk_7_the_scripts_of_built_in_skills_work() {
        let home = tempfile::tempdir().expect("a folder");
        let home = home.path();
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("builtin");
        let run = |script: &str, arguments: &[&str]| {
            let done = Command::new("python3")
                .arg(scripts.join(script))
                .args(arguments)
                .current_dir(home)
                .output()
                .expect("python3");
            assert!(
                done.status.success(),
                "{script}: {}",
                String::from_utf8_lossy(&done.stderr)
            );
            String::from_utf8_lossy(&done.stdout).into_owned()
        };
        let write = |name: &str, text: &str| std::fs::write(home.join(name), text).expect(name);
        write(
            "a.md",
            "# Title\n\nHello **bold** & more.\n\n- one\n\n| a | <b> |\n|---|---|\n| 1 | 2 |\n",
        );
        run("docx/scripts/make.py", &["a.md", "a.docx"]);
        let text = run("docx/scripts/text.py", &["a.docx"]);
        assert_eq!(
            text,
            "# Title\nHello bold & more.\n- one\n| a | <b> |\n| 1 | 2 |\n\n\n"
        );
        write("t.csv", "name,n\nx,1.5\n007,=B2*2\n");
        run("xlsx/scripts/make.py", &["t.xlsx", "t.csv"]);
        assert_eq!(
            run("xlsx/scripts/rows.py", &["t.xlsx"]),
            "t: 3 rows, 2 columns\n"
        );
        let rows = run("xlsx/scripts/rows.py", &["t.xlsx", "t"]);
        assert_eq!(rows, "name,n\r\nx,1.5\r\n007,\r\n");
        write("o.md", "# One\n- point & more\n# Two\n");
        run("pptx/scripts/make.py", &["o.md", "o.pptx"]);
        let text = run("pptx/scripts/text.py", &["o.pptx"]);
        assert_eq!(text, "# Slide 1\nOne\npoint & more\n\n# Slide 2\nTwo\n\n");
        write("p.txt", "# Head\ncaf\u{e9} (1)\n");
        run("pdf/scripts/make.py", &["p.txt", "p.pdf"]);
        let made = std::fs::read(home.join("p.pdf")).expect("made");
        assert!(made.starts_with(b"%PDF-1.4") && made.ends_with(b"%%EOF\n"));
        assert!(made.windows(10).any(|at| at == b"(caf\xe9 \\(1\\"));
    }
}

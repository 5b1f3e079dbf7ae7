//! `[blobs]` and `[files]`: where the bytes of files are, and how many there may be.

use std::path::{Path, PathBuf};

use manyhands_blobs::S3;
use secrecy::SecretString;
use serde::Deserialize;

use super::file::KeySource;
use super::{Environment, Error, variable, wrong};

/// Where the bytes of files and checkpoints are.
#[derive(Clone, Debug)]
pub enum BlobPlace {
    /// In a folder; servers at several places must share it.
    Folder(PathBuf),
    /// In a bucket.
    S3(S3),
}

impl BlobPlace {
    /// Without settings: in the data directory.
    pub fn default_in(data_dir: &Path) -> Self {
        Self::Folder(data_dir.join("blobs"))
    }
}

/// Bounds of files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// How many bytes all that clients have sent may have, in each workspace; `None` without bounds but the disk's.
    pub quota: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct BlobsSection {
    folder: Option<PathBuf>,
    bucket: Option<String>,
    region: Option<String>,
    endpoint: Option<String>,
    access_key_id: Option<String>,
    secret_access_key: Option<KeySource>,
}

impl BlobsSection {
    pub(super) fn effective(
        self,
        data_dir: &Path,
        environment: Environment<'_>,
    ) -> Result<BlobPlace, Error> {
        let Some(bucket) = self.bucket else {
            let of_a_bucket = self.region.is_some()
                || self.endpoint.is_some()
                || self.access_key_id.is_some()
                || self.secret_access_key.is_some();
            if of_a_bucket {
                return Err(wrong(
                    "blobs.bucket",
                    "is missing: the other settings are of a bucket",
                ));
            }
            return Ok(match self.folder {
                Some(folder) => BlobPlace::Folder(folder),
                None => BlobPlace::default_in(data_dir),
            });
        };
        if self.folder.is_some() {
            return Err(wrong("blobs.folder", "cannot be combined with a bucket"));
        }
        if let Some(endpoint) = &self.endpoint {
            let checked = manyhands_egress::check_endpoint(endpoint);
            checked.map_err(|error| wrong("blobs.endpoint", error.to_string()))?;
        }
        let access_key_id = match self.access_key_id {
            Some(id) => Some(id),
            None => variable(environment, "AWS_ACCESS_KEY_ID")?,
        };
        let secret_access_key = match self.secret_access_key {
            Some(source) => Some(source.read("blobs.secret_access_key", environment)?),
            None => variable(environment, "AWS_SECRET_ACCESS_KEY")?.map(SecretString::from),
        };
        if access_key_id.is_some() != secret_access_key.is_some() {
            return Err(wrong(
                "blobs.secret_access_key",
                "a key's id and its secret go together; without both, the machine's own role is used",
            ));
        }
        Ok(BlobPlace::S3(S3 {
            bucket,
            region: self.region.unwrap_or_else(|| "us-east-1".to_owned()),
            endpoint: self.endpoint,
            access_key_id,
            secret_access_key,
        }))
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct FilesSection {
    quota_bytes: Option<u64>,
}

impl FilesSection {
    pub(super) fn effective(self) -> Files {
        Files {
            quota: self.quota_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Result<BlobPlace, Error> {
        let section: BlobsSection = toml::from_str(text).expect("TOML");
        let environment = |name: &str| match name {
            "AWS_ACCESS_KEY_ID" => Ok("id".to_owned()),
            "AWS_SECRET_ACCESS_KEY" | "OTHER" => Ok("hunter2".to_owned()),
            _ => Err(std::env::VarError::NotPresent),
        };
        section.effective(Path::new("/data"), &environment)
    }

    #[test]
    fn blobs_are_in_a_folder_or_a_bucket_and_no_secret_is_shown() {
        #[track_caller]
        fn check(text: &str, expected: &str) {
            let place = place(text).expect(text);
            let shown = format!("{place:?}");
            assert!(shown.contains(expected), "{shown}");
            assert!(!shown.contains("hunter2"), "{shown}");
        }
        check("", "/data/blobs");
        check("folder = \"/elsewhere\"", "/elsewhere");
        check("bucket = \"b\"", "us-east-1");
        check(
            "bucket = \"b\"\nendpoint = \"http://127.0.0.1:9000\"\nregion = \"r\"\naccess_key_id = \"x\"\n\
             secret_access_key = { env = \"OTHER\" }",
            "http://127.0.0.1:9000",
        );
    }

    #[test]
    fn settings_that_do_not_go_together_are_refused_by_name() {
        #[track_caller]
        fn check(text: &str, name: &str) {
            let error = place(text).expect_err(text).to_string();
            assert!(error.starts_with(name), "{error}");
        }
        check("region = \"r\"", "blobs.bucket");
        check("bucket = \"b\"\nfolder = \"/f\"", "blobs.folder");
        check("bucket = \"b\"\nendpoint = \"ftp://x\"", "blobs.endpoint");
    }
}

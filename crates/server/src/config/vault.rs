//! `[vault]`: where the master key of all secrets comes from (security CRED-1).

use std::path::{Path, PathBuf};

use manyhands_vault::Source;
use secrecy::SecretString;
use serde::Deserialize;

use super::{Environment, Error, variable, wrong};

/// The variable with the master key itself.
const VARIABLE: &str = "MANYHANDS_MASTER_KEY";

/// Where the master key comes from.
#[derive(Clone, Debug)]
pub enum MasterKey {
    /// From a file that is made at the first start.
    Made(PathBuf),
    /// From a file of the operator's.
    File(PathBuf),
    /// From the environment.
    Environment(SecretString),
}

impl MasterKey {
    /// As the vaults want it.
    pub fn source(&self) -> Source {
        match self {
            Self::Made(path) => Source::File {
                path: path.clone(),
                make: true,
            },
            Self::File(path) => Source::File {
                path: path.clone(),
                make: false,
            },
            Self::Environment(text) => Source::Text(text.clone()),
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct VaultSection {
    master_key_file: Option<PathBuf>,
}

impl VaultSection {
    pub(super) fn effective(
        self,
        data_dir: &Path,
        environment: Environment<'_>,
    ) -> Result<MasterKey, Error> {
        match (variable(environment, VARIABLE)?, self.master_key_file) {
            (Some(_), Some(_)) => Err(wrong(
                "vault.master_key_file",
                format!("{VARIABLE} is set as well: say one of them"),
            )),
            (Some(text), None) => Ok(MasterKey::Environment(SecretString::from(text))),
            (None, Some(path)) => Ok(MasterKey::File(path)),
            (None, None) => Ok(MasterKey::Made(data_dir.join("master-key"))),
        }
    }
}

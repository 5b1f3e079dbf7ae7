//! Secrets in a store: where they open, where they do not, and what there is without the master key (security CRED-1).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use manyhands_protocol::time::Clock as _;
use manyhands_protocol::vault::CredentialAuth;
use manyhands_protocol::{VaultId, WorkspaceId};
use manyhands_store::audit::{Act, Action, Actor};
use manyhands_store::vault::{CredentialRecord, DataKey, Inserted, Rewrapped};
use manyhands_store::{Config, Database, SharedMemory, Store};
use manyhands_testkit::clock::TestClock;
use manyhands_testkit::resources;
use manyhands_vault::master::MasterKey;
use manyhands_vault::seal::KeyBytes;
use manyhands_vault::{Error, Field, KeyError, KeySource, Place, Source, Vaults, rotate};
use secrecy::{ExposeSecret as _, SecretString};

const SECRET: &str = "sk-canary-3f9c27d1e4";

/// A store in memory that several servers share, and a folder for keys.
struct Bed {
    shared: SharedMemory,
    folder: tempfile::TempDir,
}

impl Bed {
    fn new() -> Self {
        Self {
            shared: SharedMemory::new(Arc::new(TestClock::default())).expect("a database"),
            folder: tempfile::tempdir().expect("a folder"),
        }
    }

    async fn store(&self) -> Store {
        store(Database::Memory(self.shared.clone())).await
    }

    async fn vaults(&self, source: Source) -> Vaults {
        Vaults::open(self.store().await, source)
            .await
            .expect("vaults")
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("master-key")
    }

    fn file(&self) -> Source {
        Source::File {
            path: self.path(),
            make: true,
        }
    }
}

async fn store(database: Database) -> Store {
    let config = Config::new(database, Arc::new(TestClock::default()));
    Store::open(config).await.expect("a store")
}

fn act(workspace: &WorkspaceId, action: Action) -> Act {
    Act::new(workspace, Actor::Operator, action)
}

async fn vault(store: &Store, workspace: &WorkspaceId) -> VaultId {
    let vault = resources::vault(&VaultId::generate(), TestClock::default().now());
    let made = act(workspace, Action::VaultCreate);
    store.insert_vault(made, &vault).await.expect("stored");
    vault.id
}

/// A credential with two secret fields.
async fn credential(
    vaults: &Vaults,
    workspace: &WorkspaceId,
    vault: &VaultId,
    url: &str,
) -> CredentialRecord {
    let auth = CredentialAuth::McpOauth {
        mcp_server_url: url.to_owned(),
        expires_at: None,
        refresh: None,
    };
    let shown = resources::credential(vault, auth, TestClock::default().now());
    let sealer = vaults.sealer(workspace).await.expect("a key");
    let mut secrets = BTreeMap::new();
    for field in [Field::AccessToken, Field::RefreshToken] {
        let secret = SecretString::from(format!("{SECRET} {} of {url}", field.as_str()));
        let sealed = sealer.seal_field(workspace, &shown, field, &secret);
        secrets.insert(field.as_str().to_owned(), sealed.expect("sealed"));
    }
    let record = CredentialRecord {
        workspace: workspace.clone(),
        key: format!("mcp {url}"),
        credential: shown,
        secrets,
        refused: None,
        generation: 0,
        refreshing_until: None,
    };
    let made = act(workspace, Action::CredentialCreate);
    let inserted = vaults.store().insert_credential(made, record.clone()).await;
    assert_eq!(inserted, Ok(Inserted::Done));
    record
}

/// A credential in a vault of its own, in the default workspace.
async fn some_credential(vaults: &Vaults) -> CredentialRecord {
    let store = vaults.store();
    let workspace = store.default_workspace().await.expect("a workspace");
    let vault = vault(store, &workspace).await;
    credential(vaults, &workspace, &vault, "https://a.example").await
}

/// As it is in the store now.
async fn read(store: &Store, record: &CredentialRecord) -> CredentialRecord {
    let shown = &record.credential;
    let found = store
        .credential(&record.workspace, &shown.vault_id, &shown.id)
        .await;
    found.expect("a look").expect("it is there")
}

async fn opened(vaults: &Vaults, record: &CredentialRecord, field: Field) -> Result<String, Error> {
    let secret = vaults.open_field(record, field).await?;
    Ok(secret.expect("the field").expose_secret().to_owned())
}

fn assert_damaged(opened: Result<String, Error>) {
    let error = opened.expect_err("it does not open");
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    assert!(!error.to_string().contains("canary"), "{error}");
}

/// security CRED-1, CRED-2
#[tokio::test]
async fn cred_1_a_secret_opens_where_it_was_put() {
    let bed = Bed::new();
    let vaults = bed.vaults(bed.file()).await;
    let store = vaults.store();
    let record = some_credential(&vaults).await;
    let stored = read(store, &record).await;
    let text = opened(&vaults, &stored, Field::AccessToken)
        .await
        .expect("open");
    assert_eq!(text, format!("{SECRET} access_token of https://a.example"));
    assert!(!format!("{stored:?}").contains("canary"));
    let none = vaults.open_field(&stored, Field::ClientSecret).await;
    assert!(none.expect("a look").is_none());
    // Another server with the same key.
    let other = bed.vaults(bed.file()).await;
    let text = opened(&other, &stored, Field::RefreshToken)
        .await
        .expect("open");
    assert_eq!(text, format!("{SECRET} refresh_token of https://a.example"));
}

/// security CRED-1: what is copied from one row, vault, workspace or field to another does not open there.
#[tokio::test]
async fn cred_1_a_copied_row_does_not_decrypt() {
    let bed = Bed::new();
    let vaults = bed.vaults(bed.file()).await;
    let store = vaults.store();
    let workspace = store.default_workspace().await.expect("a workspace");
    let elsewhere = WorkspaceId::generate();
    let (one, two) = (
        vault(store, &workspace).await,
        vault(store, &workspace).await,
    );
    let foreign = vault(store, &elsewhere).await;
    let from = credential(&vaults, &workspace, &one, "https://a.example").await;
    let beside = credential(&vaults, &workspace, &one, "https://b.example").await;
    let next_door = credential(&vaults, &workspace, &two, "https://a.example").await;
    let abroad = credential(&vaults, &elsewhere, &foreign, "https://a.example").await;
    for to in [&beside, &next_door, &abroad] {
        let copied = from.secrets.clone();
        let made = act(&to.workspace, Action::CredentialUpdate);
        let shown = &to.credential;
        let changed = store
            .update_credential(made, &shown.vault_id, &shown.id, move |to| {
                Ok::<_, ()>(Some(CredentialRecord {
                    secrets: copied,
                    ..to.clone()
                }))
            })
            .await;
        let to = changed.expect("written").expect("there").expect("changed");
        for field in [Field::AccessToken, Field::RefreshToken] {
            assert_damaged(opened(&vaults, &to, field).await);
        }
    }
    // The two fields of one row, exchanged.
    let mut swapped = from.clone();
    let fields = [Field::AccessToken.as_str(), Field::RefreshToken.as_str()];
    for (field, other) in [(fields[0], fields[1]), (fields[1], fields[0])] {
        let sealed = from.secrets[other].clone();
        swapped.secrets.insert(field.to_owned(), sealed);
    }
    assert_damaged(opened(&vaults, &swapped, Field::AccessToken).await);
    assert_damaged(opened(&vaults, &swapped, Field::RefreshToken).await);
    // The damage is that item's alone.
    assert!(opened(&vaults, &from, Field::AccessToken).await.is_ok());
}

/// security CRED-1: nothing of a secret is in the database's files, whichever way they are read.
#[tokio::test(flavor = "multi_thread")]
async fn cred_1_the_database_holds_no_secret() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let store = store(Database::Sqlite {
        directory: data.clone(),
    })
    .await;
    let source = Source::File {
        path: folder.path().join("master-key"),
        make: true,
    };
    let vaults = Vaults::open(store.clone(), source).await.expect("vaults");
    some_credential(&vaults).await;
    let master = std::fs::read_to_string(folder.path().join("master-key")).expect("the key");
    let hex: String = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect();
    // Of three alignments of base64 one holds, in the middle.
    let base64 = ["c2stY2FuYXJ5LTNmOWMyN2QxZT", "stY2FuYXJ5LTNmOWMyN2QxZT"];
    let look = |when: &str| {
        let mut seen = 0;
        for entry in std::fs::read_dir(&data).expect("the folder") {
            let path = entry.expect("an entry").path();
            let bytes = std::fs::read(&path).expect("a file");
            seen += bytes.len();
            let text = String::from_utf8_lossy(&bytes);
            for needle in [SECRET, &hex, base64[0], base64[1], master.trim()] {
                assert!(
                    !text.contains(needle),
                    "{when}: {} has {needle}",
                    path.display()
                );
            }
        }
        assert!(seen > 4096, "there is something to look at");
    };
    look("open");
    store.close().await;
    look("closed");
}

/// security CRED-1: without the key in use the vaults are sealed, and open when it is put in its place.
#[tokio::test]
async fn cred_1_without_the_master_key_the_vaults_are_sealed() {
    let bed = Bed::new();
    let vaults = bed.vaults(bed.file()).await;
    assert!(!vaults.is_sealed());
    let record = some_credential(&vaults).await;
    let kept = bed.folder.path().join("kept");
    std::fs::rename(bed.path(), &kept).expect("moved away");
    let other = MasterKey::generate().expect("a key");
    let elsewhere = bed.folder.path().join("elsewhere");
    other.write(&elsewhere, false).expect("written");
    for source in [
        bed.file(),
        Source::Nowhere,
        Source::Text(SecretString::from("nonsense")),
        Source::File {
            path: elsewhere,
            make: false,
        },
    ] {
        let sealed = bed.vaults(source).await;
        assert!(sealed.is_sealed());
        let why = sealed.why_sealed().expect("why");
        assert!(!why.contains("nonsense"), "{why}");
        for result in [
            sealed.require_open().await,
            sealed
                .open_field(&record, Field::AccessToken)
                .await
                .map(drop),
            sealed.sealer(&record.workspace).await.map(drop),
        ] {
            assert!(matches!(result, Err(Error::Sealed { .. })), "{result:?}");
        }
        assert!(!bed.path().exists(), "no other key is made");
    }
    let sealed = bed.vaults(bed.file()).await;
    std::fs::rename(&kept, bed.path()).expect("put back");
    assert!(opened(&sealed, &record, Field::AccessToken).await.is_ok());
    assert!(!sealed.is_sealed());
}

/// security CRED-1: the first server's key is the installation's; one with another data directory has to be given it.
#[tokio::test]
async fn cred_1_an_installation_has_one_master_key() {
    let bed = Bed::new();
    let first = bed.vaults(bed.file()).await;
    let second = bed.vaults(bed.file()).await;
    assert!(!first.is_sealed() && !second.is_sealed());
    let far = bed.folder.path().join("far");
    let third = bed
        .vaults(Source::File {
            path: far.clone(),
            make: true,
        })
        .await;
    assert!(third.is_sealed() && !far.exists());
    std::fs::copy(bed.path(), &far).expect("copied");
    third.require_open().await.expect("it has the key now");
}

/// security CRED-1: a data key that was changed is damage of what it seals, not a missing master key.
#[tokio::test]
async fn cred_1_a_changed_data_key_opens_nothing() {
    let bed = Bed::new();
    let vaults = bed.vaults(bed.file()).await;
    let store = vaults.store();
    let record = some_credential(&vaults).await;
    let fingerprint = store.master_key().await.expect("a look").expect("a key");
    let mut keys = store.data_keys().await.expect("keys");
    let last = keys[0].wrapped.pop().expect("text");
    keys[0].wrapped.push(if last == 'A' { 'E' } else { 'A' });
    let made = act(&record.workspace, Action::MasterKeyRotate);
    let changed = store
        .replace_master_key(made, &fingerprint, &fingerprint, keys)
        .await;
    assert_eq!(changed, Ok(Rewrapped::Done));
    let fresh = bed.vaults(bed.file()).await;
    assert_damaged(opened(&fresh, &record, Field::AccessToken).await);
    assert!(!fresh.is_sealed());
}

/// security CRED-1: servers that run while the master key is replaced go on, with what they know and with what they do not.
#[tokio::test]
async fn cred_1_running_servers_follow_a_rotation() {
    let bed = Bed::new();
    let knows = bed.vaults(bed.file()).await;
    let learns = bed.vaults(bed.file()).await;
    let store = knows.store();
    let record = some_credential(&knows).await;
    let before = store.master_key().await.expect("a look").expect("a key");
    let old_file = std::fs::read(bed.path()).expect("the key");
    let rotated = rotate::rotate_file(store, &bed.path())
        .await
        .expect("rotated");
    assert_eq!(rotated.keys, 1);
    let after = store.master_key().await.expect("a look").expect("a key");
    assert_eq!(after, rotated.fingerprint);
    assert_ne!(after, before);
    assert_ne!(std::fs::read(bed.path()).expect("the key"), old_file);
    for vaults in [&knows, &learns] {
        assert!(opened(vaults, &record, Field::AccessToken).await.is_ok());
        // A workspace that has no key yet gets one by the new master key.
        let new = WorkspaceId::generate();
        vaults.sealer(&new).await.expect("a key");
    }
    let fresh = bed.vaults(bed.file()).await;
    assert!(opened(&fresh, &record, Field::AccessToken).await.is_ok());
    // The old key alone is worth nothing any more.
    std::fs::write(bed.path(), old_file).expect("put back");
    let stale = bed.vaults(bed.file()).await;
    assert!(stale.is_sealed());
    assert!(stale.sealer(&record.workspace).await.is_err());
}

/// security CRED-1: nothing is replaced that does not open with the old key.
#[tokio::test]
async fn cred_1_a_rotation_needs_the_key_in_use() {
    let bed = Bed::new();
    let new = MasterKey::generate().expect("a key");
    let store = bed.store().await;
    let never = rotate::rotate(&store, &bed.file(), &new).await;
    assert!(matches!(never, Err(rotate::NotRotated::Never)), "{never:?}");
    let vaults = bed.vaults(bed.file()).await;
    let workspace = store.default_workspace().await.expect("a workspace");
    vaults.sealer(&workspace).await.expect("a key");
    let sealed = rotate::rotate(&store, &Source::Nowhere, &new).await;
    assert!(
        matches!(sealed, Err(rotate::NotRotated::Sealed(_))),
        "{sealed:?}"
    );
    let same = MasterKey::read(&bed.path()).expect("the key");
    let same = rotate::rotate(&store, &bed.file(), &same).await;
    assert!(matches!(same, Err(rotate::NotRotated::Same)), "{same:?}");
    let fresh = bed.vaults(bed.file()).await;
    assert!(fresh.sealer(&workspace).await.is_ok());
}

/// A key service, whose key never leaves it.
struct Service {
    master: MasterKey,
    silent: AtomicBool,
}

#[async_trait]
impl KeySource for Service {
    fn fingerprint(&self) -> &str {
        self.master.fingerprint()
    }

    async fn wrap(&self, bound_to: &[u8], key: &KeyBytes) -> Result<String, KeyError> {
        self.answers()?;
        self.master.wrap(bound_to, key).await
    }

    async fn unwrap(&self, bound_to: &[u8], wrapped: &str) -> Result<KeyBytes, KeyError> {
        self.answers()?;
        self.master.unwrap(bound_to, wrapped).await
    }
}

impl Service {
    fn answers(&self) -> Result<(), KeyError> {
        match self.silent.load(Ordering::SeqCst) {
            false => Ok(()),
            true => Err(KeyError::Unavailable {
                reason: "timed out".to_owned(),
            }),
        }
    }
}

/// security CRED-1: a key service in the place of a file; what was fetched from it once needs it no more.
#[tokio::test]
async fn cred_1_a_key_service_wraps_data_keys() {
    let bed = Bed::new();
    let service = Arc::new(Service {
        master: MasterKey::generate().expect("a key"),
        silent: AtomicBool::new(false),
    });
    let source = || Source::Service(Arc::clone(&service) as Arc<dyn KeySource>);
    let vaults = bed.vaults(source()).await;
    let store = vaults.store();
    let record = some_credential(&vaults).await;
    service.silent.store(true, Ordering::SeqCst);
    assert!(opened(&vaults, &record, Field::AccessToken).await.is_ok());
    let fresh = bed.vaults(source()).await;
    let silent = opened(&fresh, &record, Field::AccessToken).await;
    assert!(
        matches!(silent, Err(Error::Unavailable { .. })),
        "{silent:?}"
    );
    let silent = fresh.sealer(&WorkspaceId::generate()).await.map(drop);
    assert!(
        matches!(silent, Err(Error::Unavailable { .. })),
        "{silent:?}"
    );
    service.silent.store(false, Ordering::SeqCst);
    assert!(opened(&fresh, &record, Field::AccessToken).await.is_ok());
    // From the service to a file.
    let path: &Path = &bed.path();
    let new = MasterKey::generate().expect("a key");
    new.write(path, false).expect("written");
    rotate::rotate(store, &source(), &new)
        .await
        .expect("rotated");
    let moved = bed.vaults(bed.file()).await;
    assert!(opened(&moved, &record, Field::AccessToken).await.is_ok());
}

/// security CRED-1: what is no credential, such as a repository's token, is sealed for its own place.
#[tokio::test]
async fn cred_1_other_secrets_are_sealed_for_their_place() {
    let bed = Bed::new();
    let vaults = bed.vaults(bed.file()).await;
    let workspace = vaults
        .store()
        .default_workspace()
        .await
        .expect("a workspace");
    let place = Place {
        workspace: &workspace,
        holder: "sesn_1",
        object: "sesrsc_1",
        field: "authorization_token",
    };
    let sealed = vaults.seal(&place, &SecretString::from(SECRET)).await;
    let sealed = sealed.expect("sealed");
    let text = vaults.unseal(&place, &sealed).await.expect("open");
    assert_eq!(text.expose_secret(), SECRET);
    let moved = Place {
        holder: "sesn_2",
        ..place
    };
    let refused = vaults.unseal(&moved, &sealed).await;
    assert_damaged(refused.map(|text| text.expose_secret().to_owned()));
    let foreign = WorkspaceId::generate();
    let keyless = Place {
        workspace: &foreign,
        ..place
    };
    let refused = vaults.unseal(&keyless, &sealed).await;
    assert_damaged(refused.map(|text| text.expose_secret().to_owned()));
    let key: Option<DataKey> = vaults.store().data_key(&foreign).await.expect("a look");
    assert_eq!(key, None, "opening makes no key");
}

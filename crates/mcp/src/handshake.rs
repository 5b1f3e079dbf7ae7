//! Finding out how a server speaks: without a handshake (protocol 2026-07-28), with one, or over the older transport.

use std::sync::Arc;
use std::time::Duration;

use rmcp::model::{InitializeRequestParams, ProtocolVersion};
use serde_json::{Map, Value};
use tokio::time::timeout;
use url::Url;

use crate::door::{Door, Keys};
use crate::fault::Fault;
use crate::link::{Link, Manner, Transport, capabilities, implementation};
use crate::streamable::Streamable;
use crate::two_way::TwoWay;

const STATELESS: &str = "2026-07-28";
const GREETED: &str = "2025-11-25";
/// The errors of a server that knows the newest protocol.
const UNSUPPORTED_VERSION: i64 = -32022;
const MISSING_CAPABILITY: i64 = -32021;

/// What is known of a server from before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// Nothing: it is asked for the newest protocol first.
    None,
    /// It shakes hands.
    Greets,
}

/// Opens a conversation. An answer of the handshake has at most `page` bytes, an event of the older transport `answer`.
pub(crate) async fn open(
    keys: &Keys,
    url: &Url,
    memory: Memory,
    (page, answer): (usize, usize),
    patience: Duration,
) -> Result<Link, Fault> {
    if memory == Memory::None {
        let asked = timeout(patience, discover(keys, url, page)).await;
        // A server that keeps us waiting may still know the handshake.
        if let Ok(asked) = asked
            && let Some(link) = asked?
        {
            return Ok(link);
        }
    }
    match greet(keys, url, page).await {
        Err(Fault::Refused { status, reason }) if status != 429 => {
            let older = older(keys, url, answer).await;
            older.map_err(|fault| match fault {
                Fault::Unauthorized(_) | Fault::Unsent(_) => fault,
                _ => Fault::Refused { status, reason },
            })
        }
        greeted => greeted,
    }
}

/// `None` when the server does not know the newest protocol.
async fn discover(keys: &Keys, url: &Url, most: usize) -> Result<Option<Link>, Fault> {
    let conversation = Streamable::new(Door::new(keys.clone(), url.clone()), STATELESS);
    let link = Link::new(
        Transport::Streamable(Arc::new(conversation)),
        Manner::Stateless,
    );
    // A server may take back its refusal of a version that it names as supported.
    for _ in 0..2 {
        let answered = link
            .ask("server/discover", Map::new(), None, &[], most)
            .await;
        let supported = match answered {
            Ok(result) => {
                return Ok(names(result.get("supportedVersions"), STATELESS).then_some(link));
            }
            Err(Fault::Rpc(error)) if error.code == UNSUPPORTED_VERSION => {
                names(error.data.get("supported"), STATELESS)
            }
            Err(Fault::Rpc(error)) if error.code == MISSING_CAPABILITY => {
                return Err(Fault::Rpc(error));
            }
            Err(
                fault @ (Fault::Barred(_)
                | Fault::Unsent(_)
                | Fault::Unauthorized(_)
                | Fault::Forgotten),
            ) => {
                return Err(fault);
            }
            Err(_) => false,
        };
        if !supported {
            break;
        }
    }
    Ok(None)
}

fn names(versions: Option<&Value>, version: &str) -> bool {
    let versions = versions.and_then(Value::as_array);
    versions.is_some_and(|versions| versions.iter().any(|named| named == version))
}

async fn greet(keys: &Keys, url: &Url, most: usize) -> Result<Link, Fault> {
    let conversation = Arc::new(Streamable::new(
        Door::new(keys.clone(), url.clone()),
        GREETED,
    ));
    let link = Link::new(
        Transport::Streamable(Arc::clone(&conversation)),
        Manner::Greeted,
    );
    conversation.agree(initialize(&link, most).await?);
    initialized(link).await
}

async fn older(keys: &Keys, url: &Url, most: usize) -> Result<Link, Fault> {
    let conversation = TwoWay::open(Door::new(keys.clone(), url.clone()), most).await?;
    let link = Link::new(Transport::TwoWay(conversation), Manner::Greeted);
    initialize(&link, most).await?;
    initialized(link).await
}

/// The version that the server wants to speak.
async fn initialize(link: &Link, most: usize) -> Result<&'static str, Fault> {
    let params = InitializeRequestParams::new(capabilities(), implementation())
        .with_protocol_version(ProtocolVersion::LATEST_WITH_INITIALIZE);
    let params = match serde_json::to_value(params) {
        Ok(Value::Object(params)) => params,
        // It is made of texts.
        _ => Map::new(),
    };
    let result = link.ask("initialize", params, None, &[], most).await?;
    let version = result
        .get("protocolVersion")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let mut known = ProtocolVersion::KNOWN_VERSIONS
        .iter()
        .filter(|known| known.has_initialize());
    match known.find(|known| known.as_str() == version) {
        Some(version) => Ok(version.as_str()),
        None => {
            let version: String = version.chars().take(40).collect();
            Err(Fault::Barred(format!(
                "the server speaks version {version:?} of the protocol, which is not known here"
            )))
        }
    }
}

async fn initialized(link: Link) -> Result<Link, Fault> {
    link.notify("notifications/initialized").await?;
    Ok(link)
}

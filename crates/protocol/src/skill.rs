//! Skills and their versions (api §19), and the shapes that old clients read (api §28).

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::id::{self, IdError};
use crate::{SkillVersionId, Timestamp, tag};

/// Where a sandbox reads the skills of its session, each in a folder of its name.
pub const SKILLS: &str = "/mnt/skills";

/// A skill: `skill_…`, or the short name of a built-in one, such as `pdf`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SkillId(String);

impl SkillId {
    /// What the ids of custom skills start with.
    pub const PREFIX: &'static str = "skill_";

    /// A new, time-ordered id of a custom skill.
    pub fn generate() -> Self {
        Self(id::generate(Self::PREFIX))
    }

    /// Checks the characters; does not ask whether the skill exists. Short names are lower-case letters, digits and hyphens.
    ///
    /// # Errors
    /// [`IdError`] when it can be the id of no skill.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let error = IdError {
            prefix: Self::PREFIX,
        };
        let legal = match text.strip_prefix(Self::PREFIX) {
            Some(tail) => {
                !tail.is_empty()
                    && text.len() <= 128
                    && tail
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
            }
            None => {
                !text.is_empty()
                    && text.len() <= 64
                    && text
                        .bytes()
                        .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
            }
        };
        if legal {
            Ok(Self(text.to_owned()))
        } else {
            Err(error)
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SkillId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl TryFrom<String> for SkillId {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        Self::parse(&text)
    }
}

impl From<SkillId> for String {
    fn from(id: SkillId) -> Self {
        id.0
    }
}

impl JsonSchema for SkillId {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "SkillId".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^(skill_[A-Za-z0-9_-]+|[a-z0-9-]{1,64})$",
            "maxLength": 128,
        })
    }
}

/// Where a skill comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A user of the workspace has made it.
    Custom,
    /// It comes with the server: the contract's word for what is built in.
    Anthropic,
}

impl Origin {
    /// The wire word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Custom => "custom",
            Self::Anthropic => "anthropic",
        }
    }

    /// The origin of this wire word.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Custom, Self::Anthropic]
            .into_iter()
            .find(|origin| origin.as_str() == text)
    }
}

/// Where a skill comes from, as shown in responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Source {
    /// The origin.
    #[serde(rename = "type")]
    pub kind: Origin,
}

/// A skill, as shown in responses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Skill {
    /// Its id.
    pub id: SkillId,
    /// Always `"skill"`.
    #[serde(rename = "type")]
    pub kind: tag::Skill,
    /// A label for people, 1 to 255 characters.
    pub display_name: String,
    /// Its newest version: what `latest` means.
    pub latest_version_id: SkillVersionId,
    /// Where it comes from.
    pub source: Source,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it, or its list of versions, last changed.
    pub updated_at: Timestamp,
}

/// A version of a skill, as shown in responses. It never changes (runtime SK-1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SkillVersion {
    /// Its id.
    pub id: SkillVersionId,
    /// Always `"skill_version"`.
    #[serde(rename = "type")]
    pub kind: tag::SkillVersion,
    /// The skill.
    pub skill_id: SkillId,
    /// The slug that all versions of the skill share: its folder's name.
    pub name: String,
    /// What it does and when to use it, from its `SKILL.md`.
    pub description: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// The answer to a delete of a skill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SkillDeleted {
    /// The skill that is gone.
    pub id: SkillId,
    /// Always `"skill_deleted"`.
    #[serde(rename = "type")]
    pub kind: tag::SkillDeleted,
}

/// The answer to a delete of a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SkillVersionDeleted {
    /// The version that is gone: its id, or for old clients its time.
    pub id: String,
    /// Always `"skill_version_deleted"`.
    #[serde(rename = "type")]
    pub kind: tag::SkillVersionDeleted,
}

/// A skill as old clients read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LegacySkill {
    /// Its id.
    pub id: SkillId,
    /// Always `"skill"`.
    #[serde(rename = "type")]
    pub kind: tag::Skill,
    /// A label for people.
    pub display_title: Option<String>,
    /// Its newest version's time.
    pub latest_version: Option<String>,
    /// Where it comes from.
    pub source: Origin,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it, or its list of versions, last changed.
    pub updated_at: Timestamp,
}

/// A version of a skill as old clients read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LegacySkillVersion {
    /// Its id.
    pub id: SkillVersionId,
    /// Always `"skill_version"`.
    #[serde(rename = "type")]
    pub kind: tag::SkillVersion,
    /// The skill.
    pub skill_id: SkillId,
    /// When it was made, in microseconds since 1970, as digits: what names it in paths.
    pub version: String,
    /// The name of its folder.
    pub directory: String,
    /// The slug from its `SKILL.md`.
    pub name: String,
    /// What it does and when to use it, from its `SKILL.md`.
    pub description: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A page of skills or versions as old clients read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LegacyPage<T> {
    /// The items.
    pub data: Vec<T>,
    /// Whether there are more.
    pub has_more: bool,
    /// Send as `page` to go on; null at the end.
    pub next_page: Option<String>,
}

/// A skill that an agent is to have (api §4.6).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct SkillRefParams {
    /// Required: where it comes from.
    #[serde(rename = "type")]
    pub kind: Origin,
    /// Required: the skill.
    pub skill_id: String,
    /// Absent, null or `latest`: the newest one when the agent is saved.
    #[serde(default)]
    pub version: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_4_ids_of_skills_are_their_own_or_short_names() {
        for text in ["skill_01abc", "skill_x-_9", "pdf", "my-skill-2"] {
            assert_eq!(SkillId::parse(text).expect(text).as_str(), text);
        }
        for text in [
            "",
            "skill_",
            "Skill_1",
            "skver_1",
            "a b",
            "../x",
            "pdf/",
            "skill_a/b",
            &"a".repeat(65),
        ] {
            assert!(SkillId::parse(text).is_err(), "{text}");
        }
        assert!(SkillId::parse(SkillId::generate().as_str()).is_ok());
    }
}

//! Request values that are a text or an object. Unlike an untagged enum, an error inside the object keeps its own
//! words and its own path.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

struct TextOrObject<T, O> {
    expecting: &'static str,
    types: PhantomData<(T, O)>,
}

impl<'de, T: Deserialize<'de>, O: Deserialize<'de>> Visitor<'de> for TextOrObject<T, O> {
    type Value = Result<T, O>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.expecting)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        T::deserialize(StrDeserializer::new(text)).map(Ok)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        O::deserialize(MapAccessDeserializer::new(map)).map(Err)
    }
}

/// Reads a text as `T` (`Ok`) or an object as `O` (`Err`); anything else is refused with `expecting`.
pub(crate) fn text_or_object<'de, T, O, D>(
    deserializer: D,
    expecting: &'static str,
) -> Result<Result<T, O>, D::Error>
where
    T: Deserialize<'de>,
    O: Deserialize<'de>,
    D: Deserializer<'de>,
{
    deserializer.deserialize_any(TextOrObject {
        expecting,
        types: PhantomData,
    })
}

/// A schema that takes what [`text_or_object`] takes, and says that answers have the object.
macro_rules! text_or_object_schema {
    ($name:ident, $text:ty, $object:ty) => {
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                if generator.contract().is_serialize() {
                    return <$object>::json_schema(generator);
                }
                let text = generator.subschema_for::<$text>();
                let object = generator.subschema_for::<$object>();
                schemars::json_schema!({"anyOf": [text, object]})
            }
        }
    };
}
pub(crate) use text_or_object_schema;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::model::{EffortLevel, EffortParam, ModelParam};
    use crate::session::AgentParam;

    #[test]
    fn ag_3_a_model_is_a_text_or_an_object() {
        let object = |value| {
            serde_json::from_value::<ModelParam>(value)
                .expect("accepted")
                .into_object()
        };
        assert_eq!(object(json!("claude-opus-5")).id, "claude-opus-5");
        for effort in [json!("low"), json!({"type": "low"})] {
            let model = object(json!({"id": "m", "effort": effort, "later": 1}));
            assert_eq!(model.effort.map(EffortParam::level), Some(EffortLevel::Low));
        }
        assert_eq!(object(json!({"id": "m", "effort": null})).effort, None);
    }

    #[test]
    fn errors_say_what_is_wrong_inside() {
        let check = |value: serde_json::Value, said: &str| {
            let error = serde_json::from_value::<ModelParam>(value).expect_err("refused");
            assert!(error.to_string().starts_with(said), "{error}");
        };
        check(
            json!({"id": "m", "effort": "ultra"}),
            "unknown variant `ultra`, expected one of `low`",
        );
        check(
            json!({"id": "m", "effort": {"type": "ultra"}}),
            "unknown variant `ultra`",
        );
        check(
            json!({"id": "m", "effort": 3}),
            "invalid type: integer `3`, expected an effort level",
        );
        check(json!({"effort": "low"}), "missing field `id`");
        check(
            json!(["m"]),
            "invalid type: sequence, expected a model id or an object",
        );
        let error =
            serde_json::from_value::<AgentParam>(json!({"type": "agent"})).expect_err("refused");
        assert!(
            error.to_string().starts_with("missing field `id`"),
            "{error}"
        );
    }
}

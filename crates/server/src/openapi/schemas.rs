//! The document's schemas. What is read and what is shown are made apart, and stay apart only where they differ.

use std::collections::BTreeSet;

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::operation::SchemaOf;

/// Where schemas stand in the document.
const SHOWN: &str = "/components/schemas";
/// Where references to what is read point to until [`Schemas::finish`].
const READ: &str = "/components/schemas/read";

/// Makes schemas and collects those that they refer to.
pub(super) struct Schemas {
    read: SchemaGenerator,
    shown: SchemaGenerator,
}

impl Default for Schemas {
    fn default() -> Self {
        let settings = |path: &'static str| {
            SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = path.into();
                settings.meta_schema = None;
            })
        };
        Self {
            read: settings(READ).for_deserialize().into_generator(),
            shown: settings(SHOWN).for_serialize().into_generator(),
        }
    }
}

impl Schemas {
    /// The schema of what a request holds.
    pub(super) fn read(&mut self, of: SchemaOf) -> Value {
        of(&mut self.read).to_value()
    }

    /// The schema of what an answer holds.
    pub(super) fn shown(&mut self, of: SchemaOf) -> Value {
        of(&mut self.shown).to_value()
    }

    /// Puts all schemas into the document, and makes its references point to them.
    pub(super) fn finish(mut self, document: &mut Value) {
        let mut read = self.read.take_definitions(true);
        let mut shown = self.shown.take_definitions(true);
        let differing = differing(&read, &shown);
        let name = |name: &str| {
            let suffix = if differing.contains(name) {
                "Input"
            } else {
                ""
            };
            format!("{name}{suffix}")
        };
        read.values_mut().for_each(|schema| point(schema, &name));
        point(document, &name);
        for (key, schema) in read {
            shown.insert(name(&key), schema);
        }
        document["components"]["schemas"] = Value::Object(shown);
    }
}

/// The names that mean different things when read and when shown, themselves or in what they refer to.
fn differing(read: &Map<String, Value>, shown: &Map<String, Value>) -> BTreeSet<String> {
    let mut differing = BTreeSet::new();
    loop {
        let name = |name: &str| {
            let mark = if differing.contains(name) {
                "Input"
            } else {
                ""
            };
            format!("{name}{mark}")
        };
        let more: BTreeSet<String> = read
            .iter()
            .filter(|(key, schema)| {
                let mut schema = (*schema).clone();
                point(&mut schema, &name);
                shown.get(*key).is_some_and(|shown| *shown != schema)
            })
            .map(|(key, _)| key.clone())
            .collect();
        if more.len() == differing.len() {
            return differing;
        }
        differing = more;
    }
}

/// Points the references to what is read to their names in the document.
fn point(value: &mut Value, name: &dyn Fn(&str) -> String) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                let target = member.as_str().filter(|_| key == "$ref");
                let target = target.and_then(|to| to.strip_prefix('#')?.strip_prefix(READ));
                match target {
                    Some(target) => {
                        let named = name(target.trim_start_matches('/'));
                        *member = format!("#{SHOWN}/{named}").into();
                    }
                    None => point(member, name),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| point(item, name)),
        _ => {}
    }
}

//! The JSON Schema of the file: its shape from the serde types, its words from the table of options.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::options::{self, Kind, Opt, Scalar};
use super::raw;

/// The schema (draft 2020-12), for editors and for checking files without kmirror.
#[must_use]
pub fn json_schema() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true).for_deserialize();
    let mut schema = settings.into_generator().into_root_schema_for::<raw::File>().to_value();
    describe(&mut schema, "");
    if let Some(file) = schema.as_object_mut() {
        let either = serde_json::json!([{ "required": ["mirrors"] }, { "required": ["backups"] }]);
        file.insert("anyOf".to_owned(), either);
    }
    schema
}

/// Puts the table's words to the keys of one section, and of those below it.
fn describe(section: &mut Value, pattern: &str) {
    let required: Vec<&str> =
        options::children(pattern).filter(|(_, option)| option.required).map(|(key, _)| key).collect();
    if let Some(object) = section.as_object_mut() {
        if required.is_empty() {
            object.remove("required");
        } else {
            object.insert("required".to_owned(), required.into());
        }
    }
    for (key, option) in options::children(pattern) {
        let Some(property) = section.pointer_mut(&format!("/properties/{key}")) else { continue };
        refine(property, option);
        match option.kind {
            Kind::Section => describe(property, option.path),
            Kind::Named => {
                if let Some(inner) = property.get_mut("additionalProperties") {
                    describe(inner, &format!("{}.*", option.path));
                }
            }
            Kind::Sections => {
                if let Some(inner) = property.get_mut("items") {
                    describe(inner, &format!("{}[]", option.path));
                }
            }
            Kind::Pairs | Kind::One(_) | Kind::Many(_) => {}
        }
    }
}

fn refine(property: &mut Value, option: &Opt) {
    if !property.is_object() {
        *property = serde_json::json!({});
    }
    drop_null(property);
    let Some(object) = property.as_object_mut() else { return };
    object.insert("description".to_owned(), option.doc.into());
    if let Some(default) = option.default.and_then(|text| serde_yaml::from_str::<Value>(text).ok()) {
        object.insert("default".to_owned(), default);
    }
    match option.kind {
        Kind::Pairs => {
            let single = serde_json::json!({ "type": ["string", "number", "boolean"] });
            object.insert("additionalProperties".to_owned(), single);
        }
        Kind::One(Scalar::Integer(min, max)) => {
            object.remove("format");
            object.insert("minimum".to_owned(), min.into());
            object.insert("maximum".to_owned(), max.into());
        }
        Kind::Many(_) if option.required => drop(object.insert("minItems".to_owned(), 1.into())),
        Kind::Sections => drop(object.insert("minItems".to_owned(), 1.into())),
        Kind::Named => drop(object.insert("minProperties".to_owned(), 1.into())),
        _ => {}
    }
}

/// `Option` makes schemars allow null, which the file does not.
fn drop_null(property: &mut Value) {
    let variants = property.get("anyOf").and_then(Value::as_array);
    if let Some(inner) = variants.and_then(|all| all.iter().find(|one| one.get("type") != Some(&"null".into()))) {
        *property = inner.clone();
    }
    let types = property.get("type").and_then(Value::as_array);
    if let Some(inner) = types.and_then(|all| all.iter().find(|one| **one != "null")).cloned()
        && let Some(object) = property.as_object_mut()
    {
        object.insert("type".to_owned(), inner);
    }
}

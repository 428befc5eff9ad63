//! One JSON Schema for a whole recipe, for editors.

use serde_json::{Map, Value as Json, json};

use crate::component::{ComponentSchema, registered_for};
use crate::tables::head::Head;
use crate::tables::{Entry, Presence, TABLES};
use crate::type_schema::schema_of;

/// The JSON Schema (draft 2020-12) of a recipe with the given components.
///
/// A table that names a component has one form for each, told apart by a constant tag.
pub fn json_schema(components: &[ComponentSchema]) -> Json {
    let mut definitions = Map::new();
    let mut root = embedded(&schema_of::<Head>(), "recipe", &mut definitions);
    let mut required = root.get("required").and_then(Json::as_array).cloned().unwrap_or_default();
    if let Some(properties) = root.get_mut("properties").and_then(Json::as_object_mut) {
        // The checker knows the numbered form too, so the schema says what it accepts.
        if let Some(device) = properties.get_mut("device").and_then(Json::as_object_mut) {
            device.insert("pattern".to_string(), "^(auto|flex|ndarray|cuda(:[0-9]+)?)$".into());
        }
        for entry in TABLES {
            properties.insert(entry.key.to_string(), table(entry, components, &mut definitions));
            if entry.presence == Presence::Required {
                required.push(entry.key.into());
            }
        }
        let stages = stages(properties);
        properties.insert(crate::stages::KEY.to_string(), stages);
    }
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "distill recipe",
        "description": "What `distill run` reads: a model, data and how to train.",
    });
    if let (Some(schema), Json::Object(root)) = (schema.as_object_mut(), root) {
        for (key, value) in root {
            if key != "title" && key != "description" {
                schema.insert(key, value);
            }
        }
        schema.insert("required".to_string(), required.into());
        let either = ["model", "student"].map(|table| json!({ "required": [table] }));
        schema.insert("oneOf".to_string(), json!(either));
        if !definitions.is_empty() {
            schema.insert("$defs".to_string(), definitions.into());
        }
    }
    schema
}

/// The forms of an item that names one of `components`, and the definitions that they refer to.
pub(crate) fn component_forms(components: &[&ComponentSchema]) -> (Vec<Json>, Map<String, Json>) {
    let mut definitions = Map::new();
    let forms = components
        .iter()
        .map(|component| {
            let mut form = component.schema.as_value().clone();
            if let Some(Json::Object(own)) = form.as_object_mut().and_then(|form| form.remove("$defs")) {
                definitions.extend(own);
            }
            let tag = json!({ "const": component.name });
            if let Some(form) = form.as_object_mut() {
                let mut properties = Map::new();
                properties.insert(component.tag.to_string(), tag);
                if let Some(Json::Object(own)) = form.remove("properties") {
                    properties.extend(own);
                }
                let mut required = vec![Json::from(component.tag)];
                if let Some(Json::Array(own)) = form.remove("required") {
                    required.extend(own);
                }
                form.insert("type".to_string(), "object".into());
                form.insert("properties".to_string(), properties.into());
                form.insert("required".to_string(), required.into());
                form.insert("additionalProperties".to_string(), false.into());
            }
            form
        })
        .collect();
    (forms, definitions)
}

/// The schema of `[[stage]]`: the tables of a recipe, each of which may be written in part.
fn stages(root: &Map<String, Json>) -> Json {
    let mut properties = Map::new();
    properties.insert(
        "name".to_string(),
        json!({ "type": "string", "minLength": 1, "description": "Name of the stage; one word without `/`." }),
    );
    for entry in TABLES.iter().filter(|entry| crate::stages::is_of_a_stage(entry.key)) {
        if let Some(table) = root.get(entry.key) {
            properties.insert(entry.key.to_string(), without_required(table.clone()));
        }
    }
    json!({
        "type": "array",
        "minItems": 1,
        "description": "Stages that run in order, each starting from the model of the last; a stage's tables are laid over those of the recipe.",
        "items": { "type": "object", "required": ["name"], "properties": properties, "additionalProperties": false }
    })
}

fn without_required(schema: Json) -> Json {
    match schema {
        Json::Object(mut object) => {
            object.remove("required");
            if let Some(Json::Array(forms)) = object.remove("oneOf") {
                let forms: Vec<Json> = forms.into_iter().map(without_required).collect();
                object.insert("anyOf".to_string(), forms.into());
            }
            Json::Object(object)
        }
        other => other,
    }
}

/// The schema of one table.
fn table(entry: &Entry, components: &[ComponentSchema], definitions: &mut Map<String, Json>) -> Json {
    let own = match entry.key {
        "distill" => crate::tables::distill::schema(components),
        _ => (entry.schema)(),
    };
    let plain = embedded(&own, entry.key, definitions);
    let registered = registered_for(components, entry.key);
    let mut forms = Vec::new();
    if let (Some(tag), false) = (entry.tag, registered.is_empty()) {
        forms.extend(without_tag(&plain, tag));
        for component in registered {
            forms.push(component_form(component, &plain, definitions));
        }
    }
    let mut schema = match forms.len() {
        0 => plain,
        1 => forms.remove(0),
        _ => json!({ "type": "object", "oneOf": forms }),
    };
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("description".to_string(), entry.about.into());
    }
    schema
}

/// The forms of a table that names no component: `path` alone; and what stands in its place, where the table knows
/// something else, whose first key is required and which may have sizes that no schema knows.
fn without_tag(plain: &Json, tag: &str) -> Vec<Json> {
    const PATH: &str = "path";
    let all = plain.get("properties").and_then(Json::as_object).into_iter().flatten();
    let (path, rest): (Map<_, _>, Map<_, _>) = all
        .filter(|(key, _)| *key != tag)
        .map(|(key, form)| (key.clone(), form.clone()))
        .partition(|(key, _)| key == PATH);
    let form = |properties: Map<String, Json>, open: bool| {
        let required = properties.keys().next()?.clone();
        let mut form = plain.as_object()?.clone();
        form.insert("properties".to_string(), properties.into());
        form.insert("required".to_string(), json!([required]));
        form.insert("additionalProperties".to_string(), open.into());
        Some(Json::Object(form))
    };
    form(path, false).into_iter().chain(form(rest, true)).collect()
}

/// The form of a table that names this component.
fn component_form(component: &ComponentSchema, plain: &Json, definitions: &mut Map<String, Json>) -> Json {
    let prefix = format!("{}.{}", component.table, component.name);
    let mut form = embedded(component.schema.as_value(), &prefix, definitions);
    let about = plain
        .get("properties")
        .and_then(|properties| properties.get(component.tag))
        .and_then(|tag| tag.get("description"))
        .cloned();
    if let Some(form) = form.as_object_mut() {
        let mut properties = Map::new();
        let mut tag = json!({ "const": component.name });
        if let (Some(tag), Some(about)) = (tag.as_object_mut(), about) {
            tag.insert("description".to_string(), about);
        }
        properties.insert(component.tag.to_string(), tag);
        if let Some(Json::Object(own)) = form.remove("properties") {
            for (key, value) in own {
                properties.entry(key).or_insert(value);
            }
        }
        let mut required = vec![Json::from(component.tag)];
        if let Some(Json::Array(own)) = form.remove("required") {
            required.extend(own.into_iter().filter(|key| key != component.tag));
        }
        form.insert("type".to_string(), "object".into());
        form.insert("title".to_string(), component.name.into());
        form.insert("properties".to_string(), properties.into());
        form.insert("required".to_string(), required.into());
        form.insert("additionalProperties".to_string(), false.into());
    }
    form
}

/// A type's own schema as a part of a larger one: its definitions move to `definitions` under
/// names that begin with `prefix`, and what only the checker reads is left out.
fn embedded(schema: &Json, prefix: &str, definitions: &mut Map<String, Json>) -> Json {
    let mut schema = schema.clone();
    if let Some(object) = schema.as_object_mut() {
        object.remove("$schema");
        object.remove("title");
        if let Some(Json::Object(own)) = object.remove("$defs") {
            for (name, definition) in own {
                let definition = cleaned(definition, prefix);
                definitions.insert(format!("{prefix}.{name}"), definition);
            }
        }
    }
    cleaned(schema, prefix)
}

/// References renamed to the definitions' new names; our own keywords removed, and what allows
/// `null`, which TOML does not have.
fn cleaned(schema: Json, prefix: &str) -> Json {
    match schema {
        Json::Object(object) => {
            let object = object
                .into_iter()
                .filter(|(key, value)| {
                    let ours = matches!(key.as_str(), "x-aliases" | "x-help" | "x-number");
                    !(ours || key == "default" && value.is_null())
                })
                .map(|(key, value)| {
                    let value = match (key.as_str(), value) {
                        ("$ref", Json::String(target)) => {
                            let name = target.strip_prefix("#/$defs/").unwrap_or(&target);
                            format!("#/$defs/{prefix}.{name}").into()
                        }
                        // Values, not schemas: a default may have a key of any name.
                        ("default" | "const" | "enum", value) => value,
                        (_, value) => cleaned(value, prefix),
                    };
                    (key, value)
                })
                .collect();
            Json::Object(without_null(object))
        }
        Json::Array(items) => items.into_iter().map(|item| cleaned(item, prefix)).collect(),
        other => other,
    }
}

/// A schema that does not allow `null`; where one form is left of several, it takes their place.
fn without_null(mut schema: Map<String, Json>) -> Map<String, Json> {
    if let Some(Json::Array(kinds)) = schema.get_mut("type") {
        kinds.retain(|kind| kind != "null");
        if let [only] = &kinds[..] {
            let only = only.clone();
            schema.insert("type".to_string(), only);
        }
    }
    if let Some(Json::Array(values)) = schema.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    for union in ["anyOf", "oneOf"] {
        let Some(Json::Array(forms)) = schema.get_mut(union) else {
            continue;
        };
        forms.retain(|form| form.get("type").is_none_or(|kind| kind != "null"));
        if let [Json::Object(_)] = &forms[..]
            && let Some(Json::Object(only)) = forms.pop()
        {
            schema.shift_remove(union);
            for (key, value) in only {
                schema.entry(key).or_insert(value);
            }
        }
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Document, Recipe};
    use schemars::JsonSchema;

    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only its schema is used")]
    struct Sizes {
        /// Width.
        hidden_size: Option<usize>,
        /// How it ends.
        ending: Option<Ending>,
    }

    #[derive(JsonSchema)]
    #[serde(rename_all = "snake_case")]
    #[expect(dead_code, reason = "only its schema is used")]
    enum Ending {
        /// One way.
        Pooled,
        /// Another.
        Mean,
    }

    fn components() -> Vec<ComponentSchema> {
        vec![
            ComponentSchema::of::<Sizes>("task", "kind", "classification"),
            ComponentSchema::of::<Sizes>("task", "kind", "masked_lm"),
            ComponentSchema::of::<Sizes>("model", "architecture", "bert"),
        ]
    }

    const HEAD: &str = "name = \"a\"\n";
    const TASK: &str = "[task]\nkind = \"classification\"\n";
    const MODEL: &str = "[model]\npath = \"p\"\n";
    const DATA: &str = "[data]\ntrain = \"t.jsonl\"\n";
    const TEACHER: &str = "[teacher]\npath = \"p\"\n";
    const STUDENT: &str = "[student]\npath = \"p\"\n";
    const DISTILL: &str = "[distill]\nmethod = \"tinybert\"\n";

    /// The other tables that a recipe with this one must have.
    fn companions(table: &str) -> String {
        let all = match table {
            "teacher" | "student" | "distill" | "augment" | "lora" => {
                vec![("teacher", TEACHER), ("student", STUDENT), ("distill", DISTILL)]
            }
            _ => vec![("model", MODEL)],
        };
        let always = [("task", TASK), ("data", DATA)];
        let all = all.into_iter().chain(always).filter(|(name, _)| *name != table);
        HEAD.to_string() + &all.map(|(_, text)| text).collect::<String>()
    }

    /// Another key of the table without which this one, with this value, says nothing.
    fn companion(table: &str, key: &str, value: &toml::Value) -> &'static str {
        match (table, key) {
            ("teacher", "labels" | "text") => "path = \"p\"\n",
            ("teacher", "self_distillation") if value.as_bool() == Some(false) => "path = \"p\"\n",
            ("student", "layers") if value.as_str() == Some("even") => "num_hidden_layers = 1\n",
            ("data", "target" | "target_template") => "prompt = \"p\"\n",
            ("rationale", "mode") => "rationale_prompt = \"p\"\nrationale = \"r\"\n",
            ("rationale", "wrong_rationales") => "mode = \"label_only\"\nteacher_label = \"t\"\n",
            ("rationale", _) => "mode = \"label_only\"\n",
            ("distill", "method" | "losses") => "",
            ("distill", _) => "method = \"tinybert\"\n",
            _ => "",
        }
    }

    fn target<'s>(root: &'s Json, schema: &'s Json) -> &'s Json {
        match schema.get("$ref").and_then(Json::as_str) {
            Some(pointer) => root.pointer(&pointer[1..]).expect("a definition"),
            None => schema,
        }
    }

    /// Values that a schema allows: its choices, its bounds, or one of its type.
    fn samples(root: &Json, schema: &Json) -> Vec<Json> {
        let schema = target(root, schema);
        for union in ["anyOf", "oneOf"] {
            if let Some(branches) = schema.get(union).and_then(Json::as_array) {
                return branches.iter().flat_map(|branch| samples(root, branch)).collect();
            }
        }
        if let Some(only) = schema.get("const") {
            return vec![only.clone()];
        }
        if let Some(choices) = schema.get("enum").and_then(Json::as_array) {
            return choices.iter().filter(|choice| !choice.is_null()).cloned().collect();
        }
        let kind = match schema.get("type") {
            Some(Json::Array(kinds)) => kinds[0].as_str().unwrap(),
            Some(kind) => kind.as_str().unwrap(),
            None => panic!("no type: {schema}"),
        };
        let bound = |key: &str| schema.get(key).and_then(Json::as_f64);
        match kind {
            "null" => Vec::new(),
            "boolean" => vec![true.into(), false.into()],
            "string" => vec![if schema.get("pattern").is_some() { "cuda:1" } else { "x" }.into()],
            "integer" => {
                let largest = bound("maximum").map_or(1_000, |maximum| maximum as u64);
                vec![(bound("minimum").unwrap() as u64).into(), largest.into()]
            }
            "number" => {
                let mut all = vec![json!(0.5)];
                all.extend(bound("minimum").map(Json::from));
                all.extend(bound("maximum").map(Json::from));
                all
            }
            "array" => {
                let items = samples(root, &schema["items"]);
                let count = items.len().max(bound("minItems").unwrap_or(0.0) as usize);
                vec![items.into_iter().cycle().take(count).collect()]
            }
            "object" => {
                let properties = schema["properties"].as_object().unwrap();
                let first =
                    properties.iter().map(|(key, form)| (key.clone(), samples(root, form)[0].clone()));
                vec![first.collect::<Map<_, _>>().into()]
            }
            other => panic!("type {other}"),
        }
    }

    fn accepts(text: &str) {
        let document = Document::parse("r.toml", text, &[]).expect(text);
        if let Err(faults) = Recipe::from_document(document, &components()) {
            panic!("{text}\n{faults}");
        }
    }

    #[test]
    fn every_key_of_the_schema_is_accepted_with_every_sample() {
        let schema = json_schema(&components());
        let mut tried = 0;
        // Stages are made of tables that are tried alone.
        let stages = |key: &str| key == crate::stages::KEY;
        for (key, form) in schema["properties"].as_object().unwrap().iter().filter(|(key, _)| !stages(key)) {
            let Some(entry) = TABLES.iter().find(|entry| entry.key == key) else {
                for sample in samples(&schema, form) {
                    let head = if key == "name" { "" } else { HEAD };
                    accepts(&format!("{head}{key} = {sample}\n{TASK}{MODEL}{DATA}"));
                    tried += 1;
                }
                continue;
            };
            let forms = form.get("oneOf").and_then(Json::as_array);
            for form in forms.unwrap_or(&vec![form.clone()]) {
                for (own, own_form) in form["properties"].as_object().unwrap() {
                    for sample in samples(&schema, own_form) {
                        let mut table = format!("[{key}]\n");
                        for required in form.get("required").and_then(Json::as_array).into_iter().flatten() {
                            let required = required.as_str().unwrap();
                            if required != own {
                                let first = &samples(&schema, &form["properties"][required])[0];
                                table.push_str(&format!("{required} = {first}\n"));
                            }
                        }
                        let value = toml::Value::try_from(sample).unwrap();
                        table.push_str(companion(key, own, &value));
                        table.push_str(&format!("{own} = {value}\n"));
                        accepts(&(companions(entry.key) + &table));
                        tried += 1;
                    }
                }
            }
        }
        assert!(tried > 90, "{tried}");
    }

    #[test]
    fn every_key_is_described_and_defaults_are_there() {
        let schema = json_schema(&components());
        let train = schema["properties"]["train"]["properties"].as_object().unwrap();
        for key in [
            "epochs",
            "max_steps",
            "batch_size",
            "eval_batch_size",
            "gradient_accumulation_steps",
            "learning_rate",
            "lr_scheduler_type",
            "lr_scheduler_power",
            "warmup_ratio",
            "warmup_steps",
            "weight_decay",
            "adam_beta1",
            "adam_beta2",
            "adam_epsilon",
            "max_grad_norm",
            "label_smoothing",
            "dropout",
            "freeze",
            "layerwise_lr_decay",
            "eval_steps",
            "save_steps",
            "save_total_limit",
            "metric_for_best_model",
            "early_stopping_patience",
            "logging_steps",
            "dtype",
            "gradient_checkpointing",
            "on_nan",
            "threads",
        ] {
            assert!(train.contains_key(key), "{key}");
        }
        for table in ["data", "train", "tokenizer"] {
            let properties = schema["properties"][table]["properties"].as_object().unwrap();
            for (key, form) in properties {
                assert!(form["description"].is_string(), "{table}.{key}");
            }
        }
        assert_eq!(train["learning_rate"]["default"], 5e-5);
        assert_eq!(train["save_total_limit"]["default"], 2);
        assert_eq!(train["lr_scheduler_type"]["default"], "linear");
        assert!(train["max_steps"].get("default").is_none());
        assert_eq!(schema["properties"]["seed"]["default"], 42);
        assert_eq!(schema["required"], json!(["name", "task", "data"]));
        assert_eq!(schema["oneOf"], json!([{ "required": ["model"] }, { "required": ["student"] }]));
        assert_eq!(schema["additionalProperties"], false);
    }

    #[test]
    fn components_are_forms_with_a_constant_tag() {
        let schema = json_schema(&components());
        let task = &schema["properties"]["task"];
        let kinds: Vec<&Json> = task["oneOf"]
            .as_array()
            .unwrap()
            .iter()
            .map(|form| &form["properties"]["kind"]["const"])
            .collect();
        assert_eq!(kinds, ["classification", "masked_lm"]);
        assert_eq!(task["oneOf"][0]["additionalProperties"], false);
        let model = schema["properties"]["model"]["oneOf"].as_array().unwrap();
        assert_eq!(model[0]["required"], json!(["path"]));
        assert!(model[0]["properties"].get("architecture").is_none());
        assert_eq!(model[1]["required"], json!(["architecture"]));
        let student = schema["properties"]["student"]["oneOf"].as_array().unwrap();
        let required: Vec<&Json> = student.iter().map(|form| &form["required"]).collect();
        assert_eq!(required, [&json!(["path"]), &json!(["init"]), &json!(["architecture"])]);
        assert!(student[1]["properties"]["layers"].is_object());
    }

    #[test]
    fn references_lead_to_definitions_and_our_own_keywords_stay_here() {
        let schema = json_schema(&components());
        let text = schema.to_string();
        assert!(!text.contains("\"x-"));
        let mut references = 0;
        for part in text.split("\"$ref\":\"#").skip(1) {
            let pointer = part.split('"').next().unwrap();
            assert!(schema.pointer(pointer).is_some(), "{pointer}");
            references += 1;
        }
        assert!(references > 3);
        assert!(!text.contains("null"), "{text}");
    }

    #[test]
    fn without_components_the_schema_still_has_every_table() {
        let schema = json_schema(&[]);
        let properties = schema["properties"].as_object().unwrap();
        for entry in TABLES {
            assert!(properties.contains_key(entry.key));
        }
        assert!(schema["properties"]["model"]["properties"]["path"].is_object());
    }
}

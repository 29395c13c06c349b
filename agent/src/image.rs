//! What the image of a release says about how its program is started, as scripts get it: in
//! IMAGE_ variables and in STATEFILE. `deployer` remembers it, `hooks` hands it over.

use std::fmt;

use deploy_spec::release::Image;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The `config` of an image configuration, to the letter.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct ImageConfig(Map<String, Value>);

/// What a property is where it says something.
#[derive(Clone, Copy)]
enum Shape {
    Texts,
    Text,
    Properties,
}

/// The variables, with the properties that they have.
const VARIABLES: [(&str, &str, Shape); 9] = [
    ("IMAGE_ENTRYPOINT", "Entrypoint", Shape::Texts),
    ("IMAGE_CMD", "Cmd", Shape::Texts),
    ("IMAGE_ENV", "Env", Shape::Texts),
    ("IMAGE_USER", "User", Shape::Text),
    ("IMAGE_WORKING_DIR", "WorkingDir", Shape::Text),
    ("IMAGE_LABELS", "Labels", Shape::Properties),
    ("IMAGE_EXPOSED_PORTS", "ExposedPorts", Shape::Properties),
    ("IMAGE_VOLUMES", "Volumes", Shape::Properties),
    ("IMAGE_STOP_SIGNAL", "StopSignal", Shape::Text),
];

impl ImageConfig {
    /// Returns what `image` says; nothing where it has no `config`, or one that is none.
    pub(crate) fn of(image: &Image) -> Self {
        let config = image.properties().get("config").and_then(Value::as_object);
        Self(config.cloned().unwrap_or_default())
    }

    /// Returns the names of the variables, and their values as JSON. What the image does not say is
    /// an empty list, text or object, so that scripts need not ask for it first; and so is what is
    /// of another type than the image specification has.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (&'static str, String)> {
        VARIABLES.iter().map(|(variable, property, shape)| {
            let value = shape.take(self.0.get(*property));
            (*variable, value.to_string())
        })
    }
}

/// It may hold secrets, in its environment first of all.
impl fmt::Debug for ImageConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ImageConfig(…)")
    }
}

impl Shape {
    fn take(self, value: Option<&Value>) -> Value {
        match (self, value) {
            (Self::Texts, Some(Value::Array(texts))) if texts.iter().all(Value::is_string) => {
                texts.clone().into()
            }
            // As Docker reads it.
            (Self::Texts, Some(Value::String(text))) => json!([text]),
            (Self::Text, Some(Value::String(text))) => text.clone().into(),
            (Self::Properties, Some(Value::Object(properties))) => properties.clone().into(),
            (Self::Texts, _) => json!([]),
            (Self::Text, _) => json!(""),
            (Self::Properties, _) => json!({}),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(config: Value) -> Vec<(&'static str, String)> {
        let config: ImageConfig = serde_json::from_value(config).unwrap();
        config.variables().collect()
    }

    #[test]
    fn variables_are_json_whatever_is_in_them() {
        let config = json!({
            "Entrypoint": ["/bin/sh", "-c", "echo \"$1\"\n\u{0}"],
            "Cmd": "one",
            "Env": ["A=é '", "B"],
            "User": "1000:\"1\"",
            "WorkingDir": "/a b",
            "Labels": {"a.b": "c\\"},
            "ExposedPorts": {"80/tcp": {}},
            "Volumes": {"/data": {}},
            "StopSignal": "SIGQUIT",
            "Healthcheck": {"Test": ["CMD", "x"]},
        });
        let expected = [
            (
                "IMAGE_ENTRYPOINT",
                r#"["/bin/sh","-c","echo \"$1\"\n\u0000"]"#,
            ),
            ("IMAGE_CMD", r#"["one"]"#),
            ("IMAGE_ENV", r#"["A=é '","B"]"#),
            ("IMAGE_USER", r#""1000:\"1\"""#),
            ("IMAGE_WORKING_DIR", r#""/a b""#),
            ("IMAGE_LABELS", r#"{"a.b":"c\\"}"#),
            ("IMAGE_EXPOSED_PORTS", r#"{"80/tcp":{}}"#),
            ("IMAGE_VOLUMES", r#"{"/data":{}}"#),
            ("IMAGE_STOP_SIGNAL", r#""SIGQUIT""#),
        ];
        let expected = expected.map(|(name, value)| (name, value.to_owned()));
        assert_eq!(variables(config), expected);
    }

    #[test]
    fn what_is_not_said_or_of_another_type_is_empty() {
        let empty = ["[]", "[]", "[]", "\"\"", "\"\"", "{}", "{}", "{}", "\"\""];
        for config in [
            json!({}),
            json!({"Entrypoint": null, "Labels": null, "User": null}),
            json!({"Entrypoint": [1], "Cmd": {}, "Env": ["A=b", null], "User": 7, "Labels": ["a"]}),
        ] {
            let found: Vec<_> = variables(config)
                .into_iter()
                .map(|(_, value)| value)
                .collect();
            assert_eq!(found, empty);
        }
    }

    #[test]
    fn secrets_do_not_show_up_where_it_is_printed() {
        let config: ImageConfig = serde_json::from_value(json!({"Env": ["TOKEN=secret"]})).unwrap();
        assert!(!format!("{config:?}").contains("secret"));
    }
}

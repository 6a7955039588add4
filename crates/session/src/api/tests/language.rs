//! A language for tests: records as they are kept, without secrets. And a desk without hooks.

use serde_json::{Value, json};
use xpush_core::App;
use xpush_core::ports::directory::AppRecord;

use crate::administration::{Complaint, Language};
use crate::{HookDesk, Later};

pub(super) struct Plain;

impl Language for Plain {
    fn write(&self, record: &AppRecord) -> Value {
        let mut bare = record.clone();
        bare.changed = None;
        let mut value = serde_json::to_value(&bare).unwrap();
        for key in value["keys"].as_array_mut().unwrap() {
            key.as_object_mut().unwrap().remove("material");
        }
        for hook in value.get_mut("hooks").and_then(Value::as_array_mut).into_iter().flatten() {
            hook.as_object_mut().unwrap().remove("secrets");
        }
        value
    }

    fn read(&self, _: &App, before: &AppRecord, settings: &Value) -> Result<AppRecord, Vec<Complaint>> {
        let mut settings = settings.clone();
        for key in settings.get_mut("keys").and_then(Value::as_array_mut).into_iter().flatten() {
            let known = before.keys.iter().find(|known| key["id"] == *known.id);
            key["material"] = json!(known.map(|known| known.material.clone()));
        }
        for hook in settings.get_mut("hooks").and_then(Value::as_array_mut).into_iter().flatten() {
            let known = before.hooks.iter().find(|known| hook["name"] == *known.name);
            if hook.get("secrets").is_none() {
                hook["secrets"] = json!(known.map(|known| known.secrets.clone()));
            }
        }
        serde_json::from_value(settings).map_err(|error| {
            vec![Complaint { path: String::new(), message: format!("{:?}", error.classify()) }]
        })
    }

    fn usual(&self) -> AppRecord {
        AppRecord::default()
    }
}

pub(super) struct NoHooks;

impl HookDesk for NoHooks {
    fn states(&self, _: &App) -> Later<Vec<(Box<str>, Value)>> {
        Box::pin(async { Vec::new() })
    }

    fn test(&self, _: &App, _: &str) -> Later<Option<Value>> {
        Box::pin(async { None })
    }
}

//! The members of a command's object, read where they lie.

use std::borrow::Cow;

use smallvec::SmallVec;
use xpush_core::{Channel, Code, Position, Problem};
use xpush_wire::json;

/// Members that a command's object may have: more than any command needs.
const MEMBERS: usize = 32;

/// Valid JSON values by name. Of a name that comes twice the last counts, as in JavaScript.
#[derive(Debug, Default)]
pub(crate) struct Fields<'a>(SmallVec<[(Cow<'a, str>, &'a str); 6]>);

impl<'a> Fields<'a> {
    /// Takes an object apart; its text is valid JSON already.
    pub(crate) fn parse(object: &'a str) -> Result<Self, Problem> {
        let members = json::members(object)
            .ok_or_else(|| Problem::new(Code::BadRequest, "a command takes one object"))?;
        let mut fields = SmallVec::new();
        for member in members {
            if fields.len() == MEMBERS {
                return Err(Problem::new(Code::BadRequest, "a command's object has too many members"));
            }
            fields.push(member);
        }
        Ok(Self(fields))
    }

    /// A field's JSON. `null` counts as absent.
    pub(crate) fn get(&self, name: &str) -> Option<&'a str> {
        self.raw(name).filter(|value| *value != "null")
    }

    /// A field's JSON, `null` included.
    pub(crate) fn raw(&self, name: &str) -> Option<&'a str> {
        self.0.iter().rev().find(|(field, _)| field == name).map(|(_, value)| *value)
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &'a str)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), *value))
    }

    /// A string.
    pub(crate) fn text(&self, name: &str) -> Result<Option<Cow<'a, str>>, Problem> {
        self.get(name).map(|value| json::string(value).ok_or_else(|| bad(name, "a string"))).transpose()
    }

    /// `true` or `false`.
    pub(crate) fn flag(&self, name: &str, default: bool) -> Result<bool, Problem> {
        match self.get(name) {
            None => Ok(default),
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(_) => Err(bad(name, "true or false")),
        }
    }

    /// A whole number from 0 to 2^53 − 1.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, Problem> {
        self.get(name)
            .map(|value| json::unsigned(value).ok_or_else(|| bad(name, "a whole number")))
            .transpose()
    }

    /// The channel, which every command with a channel needs.
    pub(crate) fn channel(&self) -> Result<Channel, Problem> {
        let name = self.text("channel")?.ok_or_else(|| bad("channel", "a channel's name"))?;
        Channel::new(&name).map_err(Problem::from)
    }

    /// A position.
    pub(crate) fn position(&self, name: &str) -> Result<Option<Position>, Problem> {
        let Some(object) = self.get(name) else { return Ok(None) };
        let wanted = || bad(name, "{epoch, seq}");
        let fields = Fields::parse(object).map_err(|_| wanted())?;
        let epoch =
            fields.text("epoch")?.and_then(|text| xpush_core::Epoch::parse(&text)).ok_or_else(wanted)?;
        let seq = fields.number("seq")?.ok_or_else(wanted)?;
        Ok(Some(Position { epoch, seq }))
    }
}

/// A field that is missing, or not what it must be.
pub(crate) fn bad(name: &str, wanted: &str) -> Problem {
    Problem::new(Code::BadField, format!("{name}: {wanted}"))
}

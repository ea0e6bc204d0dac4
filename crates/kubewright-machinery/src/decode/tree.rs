//! A value that was read before, in a form that keeps what a map would lose: the order of members and numbers as written.

use std::borrow::Cow;
use std::vec::IntoIter;

use serde_json::Value;

use super::Error;
use super::reader::{Reader, Token};

/// A JSON value as written.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Number(Box<str>),
    String(String),
    Array(Vec<Node>),
    Object(Vec<(String, Node)>),
}

impl From<Value> for Node {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Node::Null,
            Value::Bool(b) => Node::Bool(b),
            Value::Number(n) => Node::Number(n.to_string().into()),
            Value::String(s) => Node::String(s),
            Value::Array(items) => Node::Array(items.into_iter().map(Node::from).collect()),
            Value::Object(map) => Node::Object(map.into_iter().map(|(k, v)| (k, Node::from(v))).collect()),
        }
    }
}

enum Open {
    Array(IntoIter<Node>),
    Object(IntoIter<(String, Node)>),
}

/// Reads a tree.
pub(super) struct Tree {
    next: Node,
    open: Vec<Open>,
}

impl Tree {
    pub(super) fn new(node: Node) -> Self {
        Self { next: node, open: Vec::new() }
    }
}

impl Reader<'static> for Tree {
    fn token(&mut self) -> Result<Token<'static>, Error> {
        Ok(match std::mem::replace(&mut self.next, Node::Null) {
            Node::Null => Token::Null,
            Node::Bool(b) => Token::Bool(b),
            Node::Number(raw) => Token::Number(Cow::Owned(raw.into())),
            Node::String(text) => Token::String(Cow::Owned(text)),
            Node::Array(items) => {
                self.open.push(Open::Array(items.into_iter()));
                Token::Array
            }
            Node::Object(members) => {
                self.open.push(Open::Object(members.into_iter()));
                Token::Object
            }
        })
    }

    fn item(&mut self) -> Result<bool, Error> {
        let next = match self.open.last_mut() {
            Some(Open::Array(items)) => items.next(),
            _ => None,
        };
        let Some(node) = next else {
            self.open.pop();
            return Ok(false);
        };
        self.next = node;
        Ok(true)
    }

    fn key(&mut self) -> Result<Option<Cow<'static, str>>, Error> {
        let next = match self.open.last_mut() {
            Some(Open::Object(members)) => members.next(),
            _ => None,
        };
        let Some((key, node)) = next else {
            self.open.pop();
            return Ok(None);
        };
        self.next = node;
        Ok(Some(Cow::Owned(key)))
    }

    fn end(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

//! A JSON value that is read piece by piece, so that nothing between the text and the typed value is ever built.

use std::borrow::Cow;

use super::Error;

/// What stands next: a scalar, or the beginning of an array or object.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token<'a> {
    Null,
    Bool(bool),
    /// As written.
    Number(Cow<'a, str>),
    String(Cow<'a, str>),
    /// Its items follow: [`Reader::item`] before each.
    Array,
    /// Its members follow: [`Reader::key`] before each.
    Object,
}

/// A source of one value. Whatever is begun has to be read to its end.
pub(super) trait Reader<'a> {
    /// Reads a scalar, or enters an array or object.
    fn token(&mut self) -> Result<Token<'a>, Error>;

    /// Whether one more item follows; leaves the array where none does.
    fn item(&mut self) -> Result<bool, Error>;

    /// The key of the next member, whose value follows; leaves the object where there is none.
    fn key(&mut self) -> Result<Option<Cow<'a, str>>, Error>;

    /// Nothing follows the value.
    fn end(&mut self) -> Result<(), Error>;

    /// Reads over the rest of what a token began.
    fn skip(&mut self, token: &Token<'_>) -> Result<(), Error> {
        match token {
            Token::Array => {
                while self.item()? {
                    let item = self.token()?;
                    self.skip(&item)?;
                }
            }
            Token::Object => {
                while self.key()?.is_some() {
                    let value = self.token()?;
                    self.skip(&value)?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

//! Static tokens: Kubernetes' CSV of `token,user,uid,"group1,group2"`.
//!
//! The file's text flows in once. Only digests of the tokens are kept, so that how long a lookup takes says nothing
//! about how much of a token was right.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use super::{Authenticated, Authenticator, Refused, UserInfo, common_audiences};
use crate::server::Core;
use crate::{BoxFuture, ready};

/// Tokens known from the start.
#[derive(Clone, Debug, Default)]
pub struct StaticTokens {
    tokens: HashMap<[u8; 32], UserInfo>,
}

/// What is wrong with a token file.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    /// A line has fewer than three fields.
    #[error("line {line}: a token needs at least token, user name and uid")]
    TooFewFields {
        /// Number of the line, from 1.
        line: usize,
    },
    /// A line has an empty token.
    #[error("line {line}: the token is empty")]
    EmptyToken {
        /// Number of the line, from 1.
        line: usize,
    },
    /// A quoted field has no closing quote.
    #[error("line {line}: a quoted field is not closed")]
    OpenQuote {
        /// Number of the line, from 1.
        line: usize,
    },
}

impl StaticTokens {
    /// No tokens.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one.
    #[must_use]
    pub fn with(mut self, token: impl Into<String>, user: UserInfo) -> Self {
        self.tokens.insert(digest(&token.into()), user);
        self
    }

    /// Reads the CSV form, one token a line; empty lines are skipped.
    pub fn parse(text: &str) -> Result<Self, TokenFileError> {
        let mut tokens = HashMap::new();
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            if line.trim().is_empty() {
                continue;
            }
            let fields = fields(line).ok_or(TokenFileError::OpenQuote { line: number })?;
            let [token, name, uid, rest @ ..] = fields.as_slice() else {
                return Err(TokenFileError::TooFewFields { line: number });
            };
            if token.is_empty() {
                return Err(TokenFileError::EmptyToken { line: number });
            }
            let groups = rest.first().map_or_else(Vec::new, |groups| {
                groups.split(',').map(str::trim).filter(|g| !g.is_empty()).map(str::to_string).collect()
            });
            let user = UserInfo { name: name.clone(), uid: uid.clone(), groups, ..UserInfo::default() };
            tokens.insert(digest(token), user);
        }
        Ok(Self { tokens })
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// The fields of one CSV line; `None` when a quote stays open.
fn fields(line: &str) -> Option<Vec<String>> {
    let mut out = Vec::new();
    let mut chars = line.trim_end_matches('\r').chars().peekable();
    loop {
        let mut field = String::new();
        while chars.peek().is_some_and(|c| *c == ' ') {
            chars.next();
        }
        if chars.peek() == Some(&'"') {
            chars.next();
            loop {
                match chars.next()? {
                    '"' if chars.peek() == Some(&'"') => {
                        chars.next();
                        field.push('"');
                    }
                    '"' => break,
                    c => field.push(c),
                }
            }
            while chars.peek().is_some_and(|c| *c != ',') {
                chars.next();
            }
        } else {
            while let Some(c) = chars.next_if(|c| *c != ',') {
                field.push(c);
            }
        }
        out.push(field);
        if chars.next().is_none() {
            return Some(out);
        }
    }
}

impl Authenticator for StaticTokens {
    fn authenticate_token<'a>(
        &'a self,
        core: &'a Core,
        token: &'a str,
        audiences: &'a [String],
    ) -> BoxFuture<'a, Result<Option<Authenticated>, Refused>> {
        // These tokens say nothing of audiences: they are good for the server's own.
        let audiences = common_audiences(audiences, &core.config().api_audiences);
        let known = self.tokens.get(&digest(token)).filter(|_| !audiences.is_empty());
        ready(Ok(known.map(|user| Authenticated { user: user.clone(), audiences })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_groups_are_split_and_unquoted_lines_have_none() {
        let tokens = StaticTokens::parse("secret,admin,1,\"system:masters, ops\"\n\nt2,bob,2\n").unwrap();
        assert_eq!(tokens.tokens[&digest("secret")].groups, ["system:masters", "ops"]);
        assert_eq!(tokens.tokens[&digest("t2")].name, "bob");
        assert!(tokens.tokens[&digest("t2")].groups.is_empty());
    }

    #[test]
    fn broken_lines_are_named() {
        assert!(matches!(StaticTokens::parse("a,b"), Err(TokenFileError::TooFewFields { line: 1 })));
        assert!(matches!(StaticTokens::parse("a,b,c\n,b,c"), Err(TokenFileError::EmptyToken { line: 2 })));
        assert!(matches!(StaticTokens::parse("a,b,c,\"d"), Err(TokenFileError::OpenQuote { line: 1 })));
    }
}

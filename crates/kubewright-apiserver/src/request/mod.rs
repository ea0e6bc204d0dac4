//! What a request asks for, read from its head once: [`RequestInfo`] from the URL, options from the query, and the
//! media types that may go in and out. Nobody reads the URL again after this.

pub mod info;
pub mod input;
pub mod negotiate;
pub mod params;
pub mod token;
pub mod yaml;

pub use info::RequestInfo;
pub use input::{BodyDecoder, DecodeFault, Input};
pub use negotiate::{Encoding, Output, Transform};
pub use params::{DeleteOptions, FieldValidation, ListOptions, Query, WriteOptions};
pub use token::Token;

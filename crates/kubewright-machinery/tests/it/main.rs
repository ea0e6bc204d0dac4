//! What holds of this crate for inputs that were found from outside.

mod corpus;

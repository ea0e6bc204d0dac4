//! Names of service accounts as users and groups.

/// What every service account's user name begins with.
pub const USER_PREFIX: &str = "system:serviceaccount:";
/// The group of all service accounts; those of a namespace are in `system:serviceaccounts:NAMESPACE` too.
pub const ALL: &str = "system:serviceaccounts";

/// The user that a service account is.
pub fn user_name(namespace: &str, name: &str) -> String {
    format!("{USER_PREFIX}{namespace}:{name}")
}

/// The groups that a service account is in.
pub fn groups(namespace: &str) -> [String; 2] {
    [ALL.to_string(), format!("{ALL}:{namespace}")]
}

/// Namespace and name of the service account that a user is; `None` when it is none.
pub fn split(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix(USER_PREFIX)?.split_once(':')?;
    let well_formed = kubewright_machinery::names::name_is_label(namespace, false).is_empty()
        && kubewright_machinery::names::name_is_subdomain(name, false).is_empty();
    well_formed.then_some((namespace, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_well_formed_names_are_accounts() {
        assert_eq!(split(&user_name("default", "builder")), Some(("default", "builder")));
        for other in [
            "system:serviceaccount:default",
            "system:serviceaccount::x",
            "eve",
            "system:serviceaccount:A:b:c",
        ] {
            assert_eq!(split(other), None, "{other}");
        }
    }
}

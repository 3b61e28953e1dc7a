//! Options whose values nobody is shown.

use squilla_query::OptionValue;

/// An option with one of these in its name holds a secret.
const SECRETS: [&str; 4] = ["password", "secret", "token", "key"];

/// An option's value, or `***` in place of a secret.
pub(super) fn shown(option: &OptionValue) -> &str {
    if SECRETS.iter().any(|secret| option.name.contains(secret)) { "***" } else { &option.value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let option = |name: &str| OptionValue { name: name.into(), value: "hunter2".into(), span: None };
        for name in ["password", "sasl_password", "api_key", "auth.token", "client_secret"] {
            assert_eq!(shown(&option(name)), "***", "{name}");
        }
        assert_eq!(shown(&option("path")), "hunter2");
    }
}

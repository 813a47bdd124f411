//! Shortens help texts for lists: completions, and the first line of manual pages.

use clap::{Arg, Command};

/// The first sentence, or what stands before its colon.
pub(super) fn first_sentence(text: &str) -> &str {
    let ends = [". ", ": ", "\n"].into_iter().filter_map(|end| text.find(end));
    let text = ends.min().map_or(text, |end| &text[..end]);
    text.trim_end_matches('.')
}

/// The command with texts of one sentence, also in the commands below it.
pub(super) fn brief(command: Command) -> Command {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    command.about(first_sentence(&about).to_owned()).mut_args(brief_argument).mut_subcommands(brief)
}

fn brief_argument(argument: Arg) -> Arg {
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    argument.help(first_sentence(&help).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_sentence_is_kept() {
        assert_eq!(first_sentence("Show the zones: state and reason. More"), "Show the zones");
        assert_eq!(
            first_sentence("Read gateway.yaml, or 1.5 of it. Then more."),
            "Read gateway.yaml, or 1.5 of it"
        );
        assert_eq!(first_sentence("One.\n\nTwo"), "One");
        assert_eq!(first_sentence(""), "");
    }
}

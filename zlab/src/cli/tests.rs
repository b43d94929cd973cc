//! Tests of the command line.

use super::*;

fn error(args: &[&str]) -> String {
    let args = ["zlab"].iter().chain(args);
    usage_error(&Cli::try_parse_from(args).unwrap_err())
}

/// The command line is well formed.
#[test]
fn command_line_is_well_formed() {
    Cli::command().debug_assert();
}

/// A usage error is one line, without the usage.
#[test]
fn usage_error_is_one_line() {
    let cases: [&[&str]; 11] = [
        &["density"],
        &["density", "file", "--repeat", "0"],
        &["classes", "--block-size", "0"],
        &["--nonsense"],
        &["analyze", "--pid", "x"],
        &["analyze", "--pid", "1", "file"],
        &["analyze", "--compressor"],
        &["storm", "--threads", "0"],
        &["storm", "--executor", "unheard-of"],
        &["storm", "--seconds", "NaN"],
        &["measure-pair"],
    ];
    for args in cases {
        let error = error(args);
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(
            !error.is_empty() && !error.contains("Usage") && !error.contains("--help"),
            "{error}"
        );
    }
}

/// Misspelt options and values have the right one in the message.
#[test]
fn usage_error_names_what_was_meant() {
    assert!(error(&["storm", "--secondes", "3"]).ends_with("; did you mean `--seconds`?"));
    assert!(error(&["storm", "--executor", "inlien"]).ends_with("; did you mean `inline`?"));
    assert!(!error(&["storm", "--xyzzy"]).contains("did you mean"));
}

/// Every line of every help has at most 80 columns, and every help has exit codes.
#[test]
fn help_fits_80_columns() {
    let mut cli = Cli::command();
    cli.build();
    let shown = cli.get_subcommands().filter(|command| !command.is_hide_set());
    let mut commands: Vec<clap::Command> = shown.cloned().collect();
    commands.retain(|command| command.get_name() != "help");
    commands.push(cli);
    for mut command in commands {
        for help in [command.render_help(), command.render_long_help()] {
            let help = help.to_string();
            let longest = help.lines().max_by_key(|line| line.chars().count()).unwrap();
            assert!(longest.chars().count() <= 80, "{longest}");
            assert!(help.contains("Exit codes:") && help.contains("Example"), "{help}");
        }
    }
}

#[test]
fn no_command_is_analyze() {
    let cli = Cli::try_parse_from(["zlab", "pages.bin", "--json"]).unwrap();
    assert!(cli.command.is_none() && cli.analyze.json);
    assert_eq!(cli.analyze.files, [PathBuf::from("pages.bin")]);
}

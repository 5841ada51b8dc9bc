//! Words of a shell script that mean exactly themselves.

/// `word` for a POSIX shell: as it is where nothing in it is special, else in single quotes.
pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-+=./:,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) && !word.starts_with('=') {
        return word.to_owned();
    }
    // A single quote ends the quotes, stands escaped, and begins them again.
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn a_shell_reads_back_what_was_quoted() {
        let words = [
            "plain",
            "",
            "two words",
            "$HOME",
            "`id`",
            "$(id)",
            "it's",
            "''",
            "\"",
            "a\\b",
            "*",
            "line\nbreak",
            "~",
            "=ls",
            "a;b",
            "ümläut",
            "-n",
            "#no",
            "!!",
            "{a,b}",
            "a=b",
            "'",
        ];
        let quoted: Vec<_> = words.iter().map(|word| quote(word)).collect();
        let script = format!("for word in {}; do printf '%s\\0' \"$word\"; done", quoted.join(" "));
        let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        let read = String::from_utf8(output.stdout).unwrap();
        let read: Vec<_> = read.split_terminator('\0').collect();
        assert_eq!(read, words);
    }
}

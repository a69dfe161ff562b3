package fault

import "strings"

// Shell quotes a word for a command line that is printed to be pasted into a
// POSIX shell. A word that no shell reads otherwise stays as it is.
func Shell(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_./-+:,@%=", r)
	}
	if word != "" && !strings.HasPrefix(word, "-") && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	if strings.HasPrefix(word, "-") {
		word = "./" + word // no option
		return Shell(word)
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

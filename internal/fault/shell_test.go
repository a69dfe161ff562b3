package fault

import (
	"os/exec"
	"testing"
)

// What is printed to be pasted is one word for a shell, and the same word.
func TestShell(t *testing.T) {
	t.Parallel()
	for _, word := range []string{"/srv/app.db", "a b", "it's", "$(touch x)", "`x`", "", "a\nb", `back\slash`, "*", "~user", "a;b", "ö", "!!", "a\"b", "#x", "--undo", "-n it's"} {
		out, err := exec.Command("sh", "-c", "printf %s "+Shell(word)).Output()
		want := word
		if word != "" && word[0] == '-' {
			want = "./" + word
		}
		if err != nil || string(out) != want {
			t.Errorf("%q as %s: %q %v", word, Shell(word), out, err)
		}
	}
}

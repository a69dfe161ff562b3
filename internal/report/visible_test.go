package report

import "testing"

func TestVisible(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"as it is: ä 漢 🙂\n\t":      "as it is: ä 漢 🙂\n\t",
		"\x1b[2J\x1b]0;x\a":        `\u001b[2J\u001b]0;x\u0007`,
		"over\rwritten":            `over\u000dwritten`,
		"\u009b31m":                `\u009b31m`,
		"a\u202eb\u2066c\u200bd":   `a\u202eb\u2066c\u200bd`,
		"\xff\xfe raw":             `\xff\xfe raw`,
		"\x7f":                     `\u007f`,
		"\ufffd is a character":    "\ufffd is a character",
		"\U000e0041 hidden letter": `\udb40\udc41 hidden letter`,
	} {
		if got := Visible(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	for text, want := range map[string]string{"=1+1": "'=1+1", "@x": "'@x", "-2": "'-2", "plain": "plain", "": ""} {
		if got := Cell(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

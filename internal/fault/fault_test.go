package fault

import (
	"errors"
	"strings"
	"testing"
)

// A cause that is nil must not read as a formatting error.
func TestNoCause(t *testing.T) {
	t.Parallel()
	var none error
	e := New(Damaged, "backup %s needs number %d: %w", "x", 3, none)
	if strings.Contains(e.Error(), "%!") || !strings.Contains(e.Error(), "number 3: the cause is not known") {
		t.Errorf("%q", e)
	}
	cause := errors.New("why")
	if e := New(Damaged, "%v and %w", none, cause); !errors.Is(e, cause) {
		t.Errorf("%q", e)
	}
	if e := New(Damaged, "%v", none); e.Error() != "<nil>" {
		t.Errorf("%q", e)
	}
}

package fault

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
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

// An error that nobody named keeps what the operating system said of it.
func TestOfTheSystem(t *testing.T) {
	t.Parallel()
	for errno, want := range map[syscall.Errno]int{
		syscall.ENOSPC: 15, syscall.EDQUOT: 15, syscall.EROFS: 16, syscall.EACCES: 16, syscall.EPERM: 16, syscall.EIO: 1,
	} {
		err := fmt.Errorf("write the memory: %w", &fs.PathError{Op: "chmod", Path: "/state/app.json", Err: errno})
		if got := Exit(err); got != want {
			t.Errorf("%v exits %d, not %d", err, got, want)
		}
		if got := Exit(fmt.Errorf("app: %w", New(Storage, "%w", err))); got != Storage.Exit {
			t.Errorf("%v: a fault that was named exits %d", err, got)
		}
		if Find(err) != nil {
			t.Errorf("%v is taken for a fault that was named", err)
		}
	}
	if Of(nil) != nil || Exit(nil) != 0 {
		t.Error("no error is a fault")
	}
}

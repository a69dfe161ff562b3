package seal

import (
	"errors"
	"testing"
)

// broken is a disk that is full from the first byte on.
type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

// TestWritersThatCannotBegin: whoever gets an error has nothing to abort.
func TestWritersThatCannotBegin(t *testing.T) {
	t.Parallel()
	r, err := ParseRecipients("age1t5q0zzwx5plaet6pqvf27aqqer0mp3qukwg2u8p3tg9kge2vdcqs62tzxa")
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Recipients: r, PageSize: 4096, Level: "default"}
	if w, err := NewWriter(broken{}, o); err == nil || w != nil {
		t.Errorf("full: %v %v", w, err)
	}
	if w, err := NewDeltaWriter(broken{}, o); err == nil || w != nil {
		t.Errorf("delta: %v %v", w, err)
	}
}

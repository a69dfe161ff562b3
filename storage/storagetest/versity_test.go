package storagetest

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

func TestVersityGW(t *testing.T) {
	s := VersityGW(t)
	if err := s.MakeBucket("bucket"); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(filepath.Join(s.Folder, "bucket")); err != nil || !st.IsDir() {
		t.Errorf("the bucket's folder: %v", err)
	}
	if err := s.Versioning("bucket"); err != nil {
		t.Error(err)
	}
	if err := s.AddUser("writer", "writer-secret"); err != nil {
		t.Error(err)
	}
	if err := s.Allow("bucket", "writer", "s3:PutObject", "s3:ListBucket"); err != nil {
		t.Error(err)
	}
	s.Close()
	if _, err := http.Get(s.Endpoint + "/health"); err == nil {
		t.Error("still answers after Close")
	}
}

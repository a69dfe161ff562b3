package dir

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"emsafe/internal/fault"
	"emsafe/storage"
)

const (
	writerEnv  = "EMSAFE_TEST_DIR_WRITER"
	nobodyTest = "EMSAFE_TEST_DIR_NOBODY"
)

func TestMain(m *testing.M) {
	if folder := os.Getenv(writerEnv); folder != "" {
		writeUntilKilled(folder)
	}
	os.Exit(m.Run())
}

// writeUntilKilled stores objects that carry their own digest in their key
// and prints each key when Create has returned.
func writeUntilKilled(folder string) {
	b, err := Open(folder)
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	for i := 0; ; i++ {
		data := bytes.Repeat([]byte(fmt.Sprint(os.Getpid(), i, ";")), 1+i*5003%40000)
		key := fmt.Sprintf("%d/%x", i%7, sha256.Sum256(data))
		ctx := context.Background()
		if _, err := b.Create(ctx, key, bytes.NewReader(data), -1); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		fmt.Println(key)
	}
}

// Kill -9 at any moment: every object that was reported as stored is there,
// and every object that is there is whole.
func TestKilled(t *testing.T) {
	b := made(t)
	acked := map[string]bool{}
	for round := range 20 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), writerEnv+"="+b.path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			if strings.HasPrefix(lines.Text(), "error") {
				t.Error(lines.Text())
			}
			acked[lines.Text()] = true
			if n == round {
				_ = cmd.Process.Kill()
			}
		}
		_ = cmd.Wait()
	}
	seen := map[string]bool{}
	for info, err := range b.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		data, err := storage.ReadAll(t.Context(), b, info.Key, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		if _, sum, _ := strings.Cut(info.Key, "/"); fmt.Sprintf("%x", sha256.Sum256(data)) != sum {
			t.Errorf("%s is not whole", info.Key)
		}
		seen[info.Key] = true
	}
	for key := range acked {
		if !seen[key] {
			t.Errorf("%s was reported as stored and is not there", key)
		}
	}
	t.Logf("%d objects reported, %d there", len(acked), len(seen))
}

// asNobody runs TestNoPermission again as a user whom modes stop.
func asNobody(t *testing.T) {
	if os.Getenv(nobodyTest) != "" {
		t.Fatal("still root")
	}
	home, err := os.MkdirTemp("", "emsafe-dir-nobody-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	binary := filepath.Join(home, "test")
	if err := copyFile(binary, os.Args[0]); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(home, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "-test.run=^TestNoPermission$", "-test.v")
	cmd.Dir = home
	cmd.Env = append(os.Environ(), nobodyTest+"=1", "TMPDIR="+home, "HOME="+home)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534, NoSetGroups: true}}
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil || !bytes.Contains(out, []byte("--- PASS: TestNoPermission")) {
		t.Errorf("as nobody: %v", err)
	}
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	return err
}

// A disk that is full in the middle of an object: the error names the folder,
// nothing is left, and the rest of the disk is free again.
func TestDiskFull(t *testing.T) {
	b, err := remade(tmpfs(t, "size=2m"))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for range 3 {
		_, err = b.Create(t.Context(), "big", bytes.NewReader(make([]byte, 5<<20)), -1)
		refused(t, err, fault.NoSpace, b.path, "big")
	}
	put(t, b, "small", strings.Repeat("x", 1<<20))
	nothingLeft(t, b)
}

// A disk that is unmounted, so that the path leads to the empty mount point.
func TestUnmounted(t *testing.T) {
	folder := tmpfs(t, "size=2m")
	b, err := remade(folder)
	if err != nil {
		t.Fatal(err)
	}
	put(t, b, "k", "x")
	unmountLazily(t, folder)
	refused(t, lastError(b, t), fault.NoBucket, "unmounted")
	b.Close()
	_, err = Open(folder)
	refused(t, err, fault.NoBucket, "mounted")
}

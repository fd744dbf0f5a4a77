package azure

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azfile/directory"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azfile/file"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azfile/fileerror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azfile/share"
	"golang.org/x/sync/errgroup"

	"github.com/navvy-run/navvy"
)

// Metadata of shares and files that were uploaded.
const (
	metaContent = "navvycontent"
	metaFiles   = "navvyfiles"
	metaSum     = "navvysha256"
)

// manifest lists what was uploaded into a share: what is not in the tree any more is removed,
// and what others have put there is not.
const manifest = ".navvy-files"

// uploader fills a file share.
type uploader interface {
	fill(ctx context.Context, account, key, share string, t *tree) error
}

// upload fills a share. Its metadata say what is in it when all is there, and not before.
func (d *Driver) upload(ctx context.Context, what string, s *spec) error {
	account, _ := s.recipe.parameters["account"].(string)
	name, _ := s.recipe.parameters["share"].(string)
	key, err := d.accountKey(ctx, s.group, account)
	if err != nil {
		return d.failed(what, "read the key of the storage account "+account, err)
	}
	return d.failed(what, "upload", d.uploads.fill(ctx, account, key, name, s.upload))
}

// files fills shares of Azure Files over HTTPS.
type files struct{ options policy.ClientOptions }

// hands is how many files are uploaded at once.
const hands = 4

func (f *files) fill(ctx context.Context, account, key, name string, t *tree) error {
	credential, err := share.NewSharedKeyCredential(account, key)
	if err != nil {
		return conflict("the key of the storage account %s is none", account)
	}
	options := f.options
	options.Retry.StatusCodes = nil
	s, err := share.NewClientWithSharedKeyCredential("https://"+account+".file.core.windows.net/"+name, credential, &share.ClientOptions{ClientOptions: options})
	if err != nil {
		return err
	}
	if _, err := s.SetMetadata(ctx, &share.SetMetadataOptions{Metadata: map[string]*string{}}); err != nil {
		return err
	}
	root := s.NewRootDirectoryClient()
	if err := makeDirs(ctx, root, t); err != nil {
		return err
	}
	before, err := readManifest(ctx, root)
	if err != nil {
		return err
	}
	if err := writeManifest(ctx, root, slices.Concat(before, paths(t))); err != nil {
		return err
	}
	group, sending := errgroup.WithContext(ctx)
	group.SetLimit(hands)
	for _, up := range t.files {
		group.Go(func() error { return send(sending, root, t, up) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := sweep(ctx, root, before, t); err != nil {
		return err
	}
	if err := writeManifest(ctx, root, paths(t)); err != nil {
		return err
	}
	_, err = s.SetMetadata(ctx, &share.SetMetadataOptions{Metadata: map[string]*string{
		metaContent: new(t.digest), metaFiles: new(fmt.Sprint(len(t.files))),
	}})
	return err
}

func paths(t *tree) []string {
	all := make([]string, len(t.files))
	for i, f := range t.files {
		all[i] = f.path
	}
	return all
}

func makeDirs(ctx context.Context, root *directory.Client, t *tree) error {
	for _, dir := range t.dirs {
		_, err := root.NewSubdirectoryClient(dir).Create(ctx, nil)
		if err != nil && !fileerror.HasCode(err, fileerror.ResourceAlreadyExists) {
			return err
		}
	}
	return nil
}

func client(root *directory.Client, name string) *file.Client {
	if dir := path.Dir(name); dir != "." {
		root = root.NewSubdirectoryClient(dir)
	}
	return root.NewFileClient(path.Base(name))
}

// missing tells whether a file, or the directory that it would be in, is not there.
func missing(err error) bool {
	return fileerror.HasCode(err, fileerror.ResourceNotFound, fileerror.ParentNotFound) || isNotFound(err)
}

// send uploads a file, unless it is there with its checksum.
func send(ctx context.Context, root *directory.Client, t *tree, up upFile) error {
	f := client(root, up.path)
	now, err := f.GetProperties(ctx, nil)
	if err == nil && metaOf(now.Metadata) == up.sha256 && now.ContentLength != nil && *now.ContentLength == up.size {
		return nil
	}
	if err != nil && !missing(err) {
		return err
	}
	local, err := os.Open(filepath.Join(t.root, filepath.FromSlash(up.path)))
	if err != nil {
		return err
	}
	defer local.Close()
	if info, err := local.Stat(); err != nil || info.Size() != up.size {
		return errors.Join(err, fmt.Errorf("azure: %s has changed while it was uploaded: apply again: %w", local.Name(), navvy.ErrConflict))
	}
	if _, err := f.Create(ctx, up.size, nil); err != nil {
		return err
	}
	if up.size > 0 {
		if err := f.UploadFile(ctx, local, nil); err != nil {
			return err
		}
	}
	_, err = f.SetMetadata(ctx, &file.SetMetadataOptions{Metadata: map[string]*string{metaSum: new(up.sha256)}})
	return err
}

func metaOf(m map[string]*string) string {
	for key, value := range m {
		if value != nil && equalFold(key, metaSum) {
			return *value
		}
	}
	return ""
}

// sweep removes what was uploaded before and is not in the tree any more. Directories stay.
func sweep(ctx context.Context, root *directory.Client, before []string, t *tree) error {
	now := paths(t)
	for _, old := range before {
		if slices.Contains(now, old) || old == "" {
			continue
		}
		if _, err := client(root, old).Delete(ctx, nil); err != nil && !missing(err) {
			return err
		}
	}
	return nil
}

// mostManifest bounds the list of what was uploaded, in bytes.
const mostManifest = 64 << 20

func readManifest(ctx context.Context, root *directory.Client) ([]string, error) {
	got, err := root.NewFileClient(manifest).DownloadStream(ctx, nil)
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer got.Body.Close()
	text, err := io.ReadAll(io.LimitReader(got.Body, mostManifest))
	if err != nil {
		return nil, err
	}
	var names []string
	for line := range strings.SplitSeq(strings.TrimSpace(string(text)), "\n") {
		if name := strings.Trim(line, "\x00"); name != "" && path.Clean(name) == name && !strings.HasPrefix(name, "../") && !path.IsAbs(name) {
			names = append(names, name)
		}
	}
	return names, nil
}

func writeManifest(ctx context.Context, root *directory.Client, names []string) error {
	slices.Sort(names)
	text := []byte(strings.Join(slices.Compact(names), "\n") + "\n")
	f := root.NewFileClient(manifest)
	if _, err := f.Create(ctx, int64(len(text)), nil); err != nil {
		return err
	}
	return f.UploadStream(ctx, bytes.NewReader(text), nil)
}

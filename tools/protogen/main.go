// Command protogen writes the Go code of all .proto files below a folder, beside
// each file: messages and gRPC services. It compiles the files by itself and
// speaks to the generators, which go.mod pins as tools, as protoc does; protoc
// need not be installed. The plugin protocol is specified in
// google/protobuf/compiler/plugin.proto. With -comments it also writes a file of JSON
// with the comments in the schema, which generated code does not have at run time.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/linker"
	"github.com/bufbuild/protocompile/protoutil"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

// plugins are the generators that write one file each for a .proto file.
var plugins = []string{"protoc-gen-go", "protoc-gen-go-grpc"}

func main() {
	root := flag.String("root", "", "folder of the .proto files; imports are relative to it")
	comments := flag.String("comments", "", "write comments by the full name of what they are about to this file, a path relative to root; none if empty")
	check := flag.Bool("check", false, "write nothing; fail if what is there is not what would be written")
	flag.Parse()
	if err := run(context.Background(), *root, *comments, *check); err != nil {
		fmt.Fprintln(os.Stderr, "protogen:", err)
		os.Exit(1)
	}
}

// run generates the code of all .proto files below root, and with check compares
// it with what is there instead of writing it.
func run(ctx context.Context, root, comments string, check bool) error {
	protos, code, err := list(root)
	if err != nil || len(protos)+len(code) == 0 {
		return err
	}
	want, err := generate(ctx, root, comments, protos)
	if err != nil {
		return err
	}
	var stale []error
	for _, name := range code {
		if _, ok := want[name]; ok {
			continue
		}
		if check {
			stale = append(stale, fmt.Errorf("%s comes from no .proto file; run make generate", name))
		} else if err := os.Remove(filepath.Join(root, name)); err != nil {
			return err
		}
	}
	for name, content := range want {
		path := filepath.Join(root, name)
		if old, err := os.ReadFile(path); err == nil && string(old) == content {
			continue
		}
		if check {
			stale = append(stale, fmt.Errorf("%s is not what its .proto file says; run make generate", name))
		} else if err := os.WriteFile(path, []byte(content), 0o644); err != nil { //nolint:gosec // source code is for everybody to read
			return err
		}
	}
	return errors.Join(stale...)
}

// list finds the .proto files and the generated code below root, as slash-separated
// paths relative to it. A root that does not exist holds none.
func list(root string) (protos, code []string, err error) {
	err = fs.WalkDir(os.DirFS(root), ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil && path == "." && errors.Is(err, fs.ErrNotExist):
			return fs.SkipAll
		case err != nil:
			return err
		case strings.HasSuffix(path, ".proto"):
			protos = append(protos, path)
		case strings.HasSuffix(path, ".pb.go"):
			code = append(code, path)
		}
		return nil
	})
	return protos, code, err
}

// generate compiles the files and returns what the plugins make of them: content by path.
func generate(ctx context.Context, root, comments string, protos []string) (map[string]string, error) {
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{root}}),
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	files, err := compiler.Compile(ctx, protos...)
	if err != nil {
		return nil, err
	}
	request := &pluginpb.CodeGeneratorRequest{
		FileToGenerate: protos,
		Parameter:      new("paths=source_relative"),
		ProtoFile:      descriptors(files),
	}
	want := make(map[string]string)
	for _, plugin := range plugins {
		response, err := call(ctx, plugin, request)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", plugin, err)
		}
		for _, f := range response.GetFile() {
			want[f.GetName()] = f.GetContent()
		}
	}
	if comments != "" {
		if want[comments], err = commentsOf(files); err != nil {
			return nil, err
		}
	}
	return want, nil
}

// commentsOf is a JSON object with the comments of the files, each in one line, by the
// full name of what it is about.
func commentsOf(files linker.Files) (string, error) {
	all := map[protoreflect.FullName]string{}
	for _, f := range files {
		locations := f.SourceLocations()
		var add func(d protoreflect.Descriptor)
		add = func(d protoreflect.Descriptor) {
			if text := strings.Join(strings.Fields(locations.ByDescriptor(d).LeadingComments), " "); text != "" {
				all[d.FullName()] = text
			}
			for _, inner := range within(d) {
				add(inner)
			}
		}
		for _, d := range within(f) {
			add(d)
		}
	}
	text, err := json.MarshalIndent(all, "", "\t")
	return string(text) + "\n", err
}

// within are the messages, fields, enums, values, services and calls that are declared
// right in another descriptor.
func within(d protoreflect.Descriptor) (list []protoreflect.Descriptor) {
	switch d := d.(type) {
	case protoreflect.FileDescriptor:
		list = append(each(list, d.Messages()), each(nil, d.Enums())...)
		return each(list, d.Services())
	case protoreflect.MessageDescriptor:
		list = append(each(list, d.Fields()), each(nil, d.Messages())...)
		return each(list, d.Enums())
	case protoreflect.EnumDescriptor:
		return each(list, d.Values())
	case protoreflect.ServiceDescriptor:
		return each(list, d.Methods())
	}
	return nil
}

// each appends descriptors of one kind to a list.
func each[D protoreflect.Descriptor](list []protoreflect.Descriptor, ds interface {
	Len() int
	Get(int) D
},
) []protoreflect.Descriptor {
	for i := range ds.Len() {
		list = append(list, ds.Get(i))
	}
	return list
}

// descriptors lists the files and all that they import, each behind its imports.
func descriptors(files linker.Files) []*descriptorpb.FileDescriptorProto {
	var all []*descriptorpb.FileDescriptorProto
	seen := make(map[string]bool)
	var add func(f protoreflect.FileDescriptor)
	add = func(f protoreflect.FileDescriptor) {
		if seen[f.Path()] {
			return
		}
		seen[f.Path()] = true
		for i := range f.Imports().Len() {
			add(f.Imports().Get(i).FileDescriptor)
		}
		all = append(all, protoutil.ProtoFromFileDescriptor(f))
	}
	for _, f := range files {
		add(f)
	}
	return all
}

// call hands the request to a plugin that go.mod pins and reads its response.
func call(ctx context.Context, plugin string, request *pluginpb.CodeGeneratorRequest) (*pluginpb.CodeGeneratorResponse, error) {
	in, err := proto.Marshal(request)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "go", "tool", plugin)
	cmd.Stdin = bytes.NewReader(in)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	response := new(pluginpb.CodeGeneratorResponse)
	if err := proto.Unmarshal(out, response); err != nil {
		return nil, err
	}
	if response.Error != nil {
		return nil, errors.New(response.GetError())
	}
	return response, nil
}

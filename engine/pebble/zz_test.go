package pebble
import ("testing";"os";"strings";"fmt";"time";"runtime";"github.com/navvy-run/navvy/engine/driver")
func rss(t *testing.T, what string){ b,_:=os.ReadFile("/proc/self/status"); var o []string; for _,l:=range strings.Split(string(b),"\n"){ if strings.HasPrefix(l,"VmRSS")||strings.HasPrefix(l,"VmHWM")||strings.HasPrefix(l,"RssAnon"){o=append(o,strings.Join(strings.Fields(l)," "))}}; t.Log(what,o)}
func TestZMem(t *testing.T){
 dir:=t.TempDir(); s:=open(t,dir,nil); rss(t,"open")
 st:=time.Now()
 for at:=0;at<5_000_000;at+=500 { b:=new(driver.Batch); for i:=range 500 { k:=fmt.Appendf(nil,"result/job/%010d",at+i); b.IfAbsent(k); b.Put(k,fmt.Appendf(nil,"value of %d with some more bytes to it, as results have",at+i))}; if err:=s.Apply(t.Context(),b);err!=nil{t.Fatal(err)} }
 t.Log("5M conditional", time.Since(st)); rss(t,"after write")
 st=time.Now(); n:=0; s.Scan(t.Context(),driver.Range{},func(_,_ []byte)error{n++;return nil}); t.Log("scan",n,time.Since(st)); rss(t,"after scan")
 runtime.GC(); time.Sleep(3*time.Second); rss(t,"idle"); t.Log(s.db.Metrics().String())
 st=time.Now(); s.Close(); t.Log("close",time.Since(st)); st=time.Now(); s=open(t,dir,nil); t.Log("reopen",time.Since(st)); rss(t,"reopened")
 st=time.Now(); b:=new(driver.Batch); b.DeleteRange([]byte("result/"),[]byte("result0")); s.Apply(t.Context(),b); t.Log("delrange",time.Since(st)); s.Close()
}
func TestZChunks(t *testing.T){
 dir:=t.TempDir(); s:=open(t,dir,nil); rss(t,"open")
 st:=time.Now(); var total int
 line:=make([]byte,256<<10); for i:=range line {line[i]=byte(33+(i*7919+i>>3)%90)}
 for i:=range 1000 { b:=new(driver.Batch); line[i]=byte(i); b.Put(fmt.Appendf(nil,"input/job/%06d",i),line); total+=len(line); if err:=s.Apply(t.Context(),b);err!=nil{t.Fatal(err)} }
 t.Log("1000 chunks of 256K", total>>20,"MB",time.Since(st)); rss(t,"after"); runtime.GC(); time.Sleep(2*time.Second); rss(t,"idle");t.Log(s.db.Metrics().String()); s.Close()
}

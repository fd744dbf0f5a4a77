import io.grpc.MethodDescriptor;
import io.grpc.Server;
import io.grpc.ServerServiceDefinition;
import io.grpc.Status;
import io.grpc.netty.NettyServerBuilder;
import io.grpc.stub.ServerCalls;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.net.InetSocketAddress;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.TimeUnit;

/**
 * A service of navvy in Java: it answers a text with its words in reverse order.
 *
 * <pre>
 * navvy worker start --requests URL --responses URL --service 'grpc-tcp-cmd:java -cp JARS Reverse.java'
 * </pre>
 *
 * It wants grpc-netty and grpc-stub, and nothing that protoc would have to write: the
 * messages of navvy.service.v1.UserService have so few fields that they are read and
 * written here.
 */
public final class Reverse {
    /** What there is to know about a request. */
    static final class Request {
        byte[] input = {};
        String id = "";
        long attempt;
    }

    /** Answers one request. Many run at once, in threads of gRPC's. */
    static byte[] invoke(Request request) {
        String text;
        try {
            text = StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(request.input)).toString();
        } catch (CharacterCodingException e) {
            // It never will be.
            throw Status.INVALID_ARGUMENT.withDescription("the input is no text").asRuntimeException();
        }
        List<String> words = Arrays.asList(text.strip().split("\\s+"));
        if (words.equals(List.of("fail"))) {
            // The request is tried again a few times.
            throw Status.UNKNOWN.withDescription("as you wish").asRuntimeException();
        }
        Collections.reverse(words);
        return String.join(" ", words).getBytes(StandardCharsets.UTF_8);
    }

    /** Makes the service ready, before the first request. */
    static byte[] initialize(byte[] request) {
        return new byte[0];
    }

    /** Ends the service, after the last request. */
    static byte[] dispose(byte[] request) {
        return new byte[0];
    }

    static long readVarint(ByteBuffer data) {
        long value = 0;
        for (int shift = 0; ; shift += 7) {
            byte b = data.get();
            value |= (long) (b & 0x7f) << shift;
            if (b >= 0) {
                return value;
            }
        }
    }

    /** Reads an InvokeRequest. */
    static Request readRequest(ByteBuffer data) {
        Request request = new Request();
        while (data.hasRemaining()) {
            int tag = (int) readVarint(data);
            long number = 0;
            byte[] bytes = {};
            switch (tag & 7) {
                case 0:
                    number = readVarint(data);
                    break;
                case 2:
                    bytes = new byte[(int) readVarint(data)];
                    data.get(bytes);
                    break;
                default: // a field that navvy has learnt since: eight bytes, or four
                    data.position(data.position() + ((tag & 7) == 1 ? 8 : 4));
            }
            switch (tag) {
                case 1 << 3 | 2:
                    request.input = bytes;
                    break;
                case 2 << 3 | 2:
                    request.id = new String(bytes, StandardCharsets.UTF_8);
                    break;
                case 3 << 3:
                    request.attempt = number;
                    break;
            }
        }
        return request;
    }

    /** Writes an InvokeResponse. */
    static byte[] writeAnswer(byte[] output) {
        ByteArrayOutputStream message = new ByteArrayOutputStream();
        message.write(1 << 3 | 2);
        int size = output.length;
        for (; size >= 0x80; size >>>= 7) {
            message.write(size & 0x7f | 0x80);
        }
        message.write(size);
        message.writeBytes(output);
        return message.toByteArray();
    }

    /** Leaves messages the bytes that they are. */
    static final MethodDescriptor.Marshaller<byte[]> BYTES = new MethodDescriptor.Marshaller<>() {
        @Override
        public InputStream stream(byte[] message) {
            return new ByteArrayInputStream(message);
        }

        @Override
        public byte[] parse(InputStream message) {
            try {
                return message.readAllBytes();
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        }
    };

    interface Handler {
        byte[] handle(byte[] request);
    }

    static void add(ServerServiceDefinition.Builder service, String name, Handler handler) {
        MethodDescriptor<byte[], byte[]> method = MethodDescriptor.newBuilder(BYTES, BYTES)
                .setType(MethodDescriptor.MethodType.UNARY)
                .setFullMethodName("navvy.service.v1.UserService/" + name)
                .build();
        service.addMethod(method, ServerCalls.asyncUnaryCall((request, answer) -> {
            byte[] response;
            try {
                response = handler.handle(request);
            } catch (RuntimeException e) {
                answer.onError(e);
                return;
            }
            answer.onNext(response);
            answer.onCompleted();
        }));
    }

    public static void main(String[] args) throws Exception {
        String[] address = System.getenv("NAVVY_SERVICE_ADDR").split(":");
        ServerServiceDefinition.Builder service = ServerServiceDefinition.builder("navvy.service.v1.UserService");
        add(service, "Initialize", Reverse::initialize);
        add(service, "Invoke", request -> writeAnswer(invoke(readRequest(ByteBuffer.wrap(request)))));
        add(service, "Dispose", Reverse::dispose);
        Server server = NettyServerBuilder.forAddress(new InetSocketAddress(address[0], Integer.parseInt(address[1])))
                .maxInboundMessageSize(Integer.MAX_VALUE)
                .addService(service.build())
                .build()
                .start();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                server.shutdown().awaitTermination(30, TimeUnit.SECONDS);
            } catch (InterruptedException e) {
                server.shutdownNow();
            }
        }));
        System.in.transferTo(System.out); // it ends with navvy, however that ends
        System.exit(0);
    }
}

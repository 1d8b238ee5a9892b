PROTOC = PATH=.venv/bin:$$PATH .venv/bin/python -m grpc_tools.protoc
proto:
	$(PROTOC) -I . --python_out=. --mypy_out=. --grpc_python_out=. --mypy_grpc_out=. proto/*.proto
.PHONY: proto

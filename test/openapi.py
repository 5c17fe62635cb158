# SPDX-License-Identifier: Apache-2.0
"""What makes a document valid OpenAPI 3.1 (spec.openapis.org/oas/v3.1.0), as far as ours goes, and
validating answers against it.

Debian has no validator of OpenAPI, so the rules that matter to whoever reads the document are written
out here; its schemas are checked against the metaschema of JSON Schema 2020-12 by python3-jsonschema.
"""
import re

import jsonschema

METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
ROOT = {"openapi", "info", "jsonSchemaDialect", "servers", "paths", "webhooks", "components", "security",
        "tags", "externalDocs"}
OPERATION = {"tags", "summary", "description", "externalDocs", "operationId", "parameters", "requestBody",
             "responses", "callbacks", "deprecated", "security", "servers"}
SCHEMES = {"apiKey": {"name", "in"}, "http": {"scheme"}, "mutualTLS": set(), "oauth2": {"flows"},
           "openIdConnect": {"openIdConnectUrl"}}


def operations(document):
    """(path, method, operation) of all."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def resolve(document, thing):
    """The thing itself, or what its $ref leads to."""
    while "$ref" in thing:
        assert set(thing) == {"$ref"}, thing
        reference = thing["$ref"]
        assert reference.startswith("#/components/"), reference
        thing = document
        for part in reference[2:].split("/"):
            thing = thing[part]
    return thing


def validator(document, schema):
    resolver = jsonschema.RefResolver(base_uri="", referrer=document)
    return jsonschema.Draft202012Validator(schema, resolver=resolver,
                                           format_checker=jsonschema.draft202012_format_checker)


def known(what, allowed, where):
    unknown = {name for name in what if not name.startswith("x-")} - allowed
    assert not unknown, f"{where}: OpenAPI 3.1 knows no {unknown}"


def check_content(content, where):
    assert content, f"{where}: an empty content"
    for media, about in content.items():
        assert re.fullmatch(r"[a-z]+/[a-z0-9.+-]+", media), f"{where}: {media} is no media type"
        known(about, {"schema", "example", "examples", "encoding"}, where)
        if "schema" in about:
            jsonschema.Draft202012Validator.check_schema(about["schema"])


def check_parameter(parameter, where):
    known(parameter, {"name", "in", "description", "required", "deprecated", "allowEmptyValue", "style",
                      "explode", "allowReserved", "schema", "example", "examples", "content"}, where)
    assert parameter["in"] in ("path", "query", "header", "cookie"), where
    assert ("schema" in parameter) != ("content" in parameter), where
    assert parameter["in"] != "path" or parameter.get("required") is True, where
    jsonschema.Draft202012Validator.check_schema(parameter["schema"])


def check_responses(document, responses, where):
    assert responses, f"{where}: at least one response"
    for status, response in responses.items():
        assert re.fullmatch(r"[1-5](\d\d|XX)|default", status), f"{where}: {status}"
        response = resolve(document, response)
        known(response, {"description", "headers", "content", "links"}, where)
        assert isinstance(response["description"], str), where
        if "content" in response:
            check_content(response["content"], where)


def check_operation(document, path, method, operation):
    where = f"{method} {path}"
    assert method in METHODS, where
    known(operation, OPERATION, where)
    parameters = [resolve(document, p) for p in operation.get("parameters", [])]
    for parameter in parameters:
        check_parameter(parameter, where)
    names = [(p["in"], p["name"]) for p in parameters]
    assert len(set(names)) == len(names), f"{where}: a parameter twice"
    in_path = {name for place, name in names if place == "path"}
    assert in_path == set(re.findall(r"\{(\w+)\}", path)), f"{where}: parameters of the path"
    if "requestBody" in operation:
        known(operation["requestBody"], {"description", "content", "required"}, where)
        check_content(operation["requestBody"]["content"], where)
    check_responses(document, operation["responses"], where)
    check_security(document, operation.get("security", []), where)


def check_security(document, security, where):
    for alternative in security:
        for scheme in alternative:
            assert scheme in document["components"]["securitySchemes"], f"{where}: {scheme}"


def check_components(components):
    known(components, {"schemas", "responses", "parameters", "examples", "requestBodies", "headers",
                       "securitySchemes", "links", "callbacks", "pathItems"}, "components")
    for kind, things in components.items():
        for name in things:
            assert re.fullmatch(r"[A-Za-z0-9._-]+", name), f"{kind}: {name}"
    for scheme in components["securitySchemes"].values():
        assert SCHEMES[scheme["type"]] <= set(scheme), scheme


def check_document(document):
    """Raises where it is not OpenAPI 3.1."""
    assert re.fullmatch(r"3\.1\.\d+", document["openapi"])
    known(document, ROOT, "the document")
    known(document["info"], {"title", "summary", "description", "termsOfService", "contact", "license",
                             "version"}, "info")
    assert document["info"]["title"] and document["info"]["version"]
    check_components(document["components"])
    for name, schema in document["components"]["schemas"].items():
        jsonschema.Draft202012Validator.check_schema(schema)
    tags = [tag["name"] for tag in document["tags"]]
    assert len(set(tags)) == len(tags)
    check_security(document, document["security"], "the document")
    templates, ids = set(), set()
    for path, item in document["paths"].items():
        assert path.startswith("/"), path
        template = re.sub(r"\{\w+\}", "{}", path)
        assert template not in templates, f"{path} is there twice"
        templates.add(template)
    for path, method, operation in operations(document):
        check_operation(document, path, method, operation)
        assert operation["operationId"] not in ids, operation["operationId"]
        ids.add(operation["operationId"])
        assert set(operation["tags"]) <= set(tags), operation["tags"]
    check_references(document, document)


def check_references(document, thing):
    if isinstance(thing, dict):
        if isinstance(thing.get("$ref"), str):
            resolve(document, {"$ref": thing["$ref"]})
        for value in thing.values():
            check_references(document, value)
    elif isinstance(thing, list):
        for value in thing:
            check_references(document, value)


def check_answer(document, operation, status, content_type, body):
    """The answer against what the operation promises; `body` is parsed if it is JSON. Raises."""
    where = f"{operation['operationId']} answered {status}"
    responses = operation["responses"]
    response = resolve(document, responses.get(str(status)) or responses["default"])
    assert str(status) in responses or status >= 400, f"{where}, which is not described"
    content = response.get("content")
    if content is None:
        assert not body, f"{where} with a body"
        return
    media = content_type.split(";")[0].strip()
    assert media in content, f"{where} with {media}"
    if "schema" in content[media]:
        errors = sorted(validator(document, content[media]["schema"]).iter_errors(body), key=str)
        assert not errors, f"{where}: {errors[0].message} at {list(errors[0].absolute_path)}: {body}"

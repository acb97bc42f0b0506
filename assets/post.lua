-- For Quarto and for the preview: links on top of a post, and the parts of pages that are made at render time.

local stringify = pandoc.utils.stringify

local function project()
  return quarto and quarto.project and quarto.project.directory or os.getenv("PREVIEW_ROOT") or "."
end

-- A file below results/, which publish.results writes before a render; nil when there is none with its mark.
local function made(name)
  local file = io.open(project() .. "/results/" .. name)
  if not file then return nil end
  local text = file:read("a")
  file:close()
  local derived = text:match("^<!%-%- Derived [^\n]* %-%->\n(.*)")
  return derived and pandoc.read(derived, "markdown").blocks
end

local function post_folder()
  local path = quarto and quarto.doc and quarto.doc.input_file or os.getenv("PREVIEW_SOURCE") or ""
  return path:gsub("\\", "/"):match("posts/([^/]+)/index%.ipynb$")
end

-- What the page was computed on, which publish.badge reads from the notebook; nil when it does not say.
local function badge(meta)
  if not meta.computed then return nil end
  local by = stringify(meta["computed-by"] or "")
  local text = pandoc.Inlines { pandoc.Str("Computed on " .. stringify(meta.computed)) }
  if by ~= "" then text:insert(pandoc.Span({ pandoc.Str(by) }, { class = "computed-by" })) end
  return pandoc.Span(text, { class = "computed" })
end

local function links(meta)
  local folder = post_folder()
  if not folder then return nil end
  local notebook = pandoc.Link("Download the notebook", "index.ipynb", "",
    pandoc.Attr("", {}, { { "download", folder .. ".ipynb" }, { "data-noresolveinput", "true" } }))
  local inlines = pandoc.Inlines { notebook }
  local repository = stringify(meta.repository or "")
  if repository ~= "" then
    local address = "https://colab.research.google.com/github/%s/blob/main/posts/%s/index.ipynb"
    inlines:extend { pandoc.Space(), pandoc.Link("Open in Colab", address:format(repository, folder)) }
  end
  local computed = badge(meta)
  if computed then inlines:extend { pandoc.Space(), computed } end
  return pandoc.Div(pandoc.Plain(inlines), { class = "post-links" })
end

function Pandoc(document)
  document = document:walk {
    Div = function(div)
      if div.identifier == "records" then
        div.content = made("records.md") or pandoc.Blocks { pandoc.Para "Nothing has been recorded yet." }
        return div
      elseif div.identifier == "front" then
        div.content = made("front.md") or pandoc.Blocks {}
        return div
      end
    end,
  }
  local top = links(document.meta)
  if top then document.blocks:insert(1, top) end
  return document
end
